"""What is drawn at rest, and since when, from the watts of short stretches."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest

from appliance.power.steady import COUNT, PATIENCE, Resting, Stretch, find_resting


def watched(power_w: Callable[[int], float]) -> Iterator[Resting | None]:
    """Looked at after each stretch of 5 s."""
    stretches: list[Stretch] = []
    for n in range(PATIENCE + 1):
        stretches.append(Stretch(5.0, power_w(n)))
        yield find_resting(stretches)


def first(power_w: Callable[[int], float]) -> tuple[int, Resting]:
    return next((n, found) for n, found in enumerate(watched(power_w), 1) if found)


def test_what_is_level_is_believed_at_once() -> None:
    after, found = first(lambda _: 79.0)

    assert (after, found) == (COUNT, Resting(79.0, 0.0, 0.0))


@pytest.mark.parametrize("tail", range(1, 9))
def test_a_tail_is_waited_for(tail: int) -> None:
    """However long it is, none of it is in the figure, and its length is told."""
    after, found = first(lambda n: 99.0 if n < tail else 79.0)

    assert after == COUNT + tail
    assert found == Resting(79.0, 0.0, tail * 5.0)


def test_a_tail_that_fades() -> None:
    """What is left of it is less than can be told from nothing."""
    _, found = first(lambda n: 79.0 + 40.0 * math.exp(-n / 2))

    assert found.power_w == pytest.approx(79.0, abs=0.5)
    assert found.settle_s == 35.0  # until then it was 1.6 W or more


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_tail(seed: int) -> None:
    """It says how much there is, and that is soon believed."""
    dice = random.Random(seed)
    watts = [dice.gauss(79.0, 3.0) for _ in range(PATIENCE + 1)]
    after, found = first(lambda n: watts[n])

    assert after <= PATIENCE
    assert found.power_w == pytest.approx(79.0, abs=4 * 3.0 / math.sqrt(COUNT))
    assert 1.0 < found.spread_w < 6.0


def test_what_never_settles() -> None:
    """After a while it is taken as it is, with a spread that says what it is worth."""
    after, found = first(lambda n: 79.0 + n)

    assert after == PATIENCE
    assert found.spread_w > 3.0
