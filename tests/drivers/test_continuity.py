"""One counter's readings, and everything that is none."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.continuity import CALM, Continuity
from drivers.errors import BadReading


def watts(most: float = 100.0, **how: float) -> Continuity:
    return Continuity("meter", max_per_s=most, **how)


def told(counter: Continuity, *readings: tuple[float, float]) -> list[tuple[float, int] | None]:
    """(what was counted, epoch) for each (at_s, value); None where it was refused."""
    found: list[tuple[float, int] | None] = []
    for at_s, value in readings:
        try:
            found.append((counter.take(at_s, value), counter.epoch))
        except BadReading:
            found.append(None)
    return found


def test_what_continues_is_passed_on() -> None:
    """Standing still is going on, too."""
    assert told(watts(), (0, 5), (1, 5), (2, 95)) == [(5, 0), (5, 0), (95, 0)]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_what_is_no_count(value: float) -> None:
    """Is refused, and changes nothing."""
    assert told(watts(), (0, 5), (1, value), (2, 50)) == [(5, 0), None, (50, 0)]


def test_a_leap_is_refused_once() -> None:
    """It came back: that was a glitch. The joules between were counted all the same."""
    assert told(watts(), (0, 500), (1, 5000), (2, 600)) == [(500, 0), None, (600, 0)]


def test_a_leap_that_lasts_is_a_new_epoch() -> None:
    """Where the counter is now it goes on, without the leap."""
    readings = (0, 500), (1, 5000), (2, 5100), (3, 5200)

    assert told(watts(), *readings) == [(500, 0), None, (5100, 1), (5200, 1)]


def test_a_restart_is_a_new_epoch() -> None:
    """At once: a step back is never taken for joules."""
    assert told(watts(), (0, 500), (1, 3), (2, 50)) == [(500, 0), (3, 1), (50, 1)]


def test_told_to_restart() -> None:
    """What comes then begins an epoch, and what follows it goes on."""
    counter = watts()
    counter.take(0, 500)
    counter.restart()

    assert told(counter, (1, 510), (2, 520)) == [(510, 1), (520, 1)]


def test_a_dip_is_two_epochs() -> None:
    """It read 0 once. Nothing of what lies between is counted, though it would be plausible."""
    readings = (0, 500), (10, 0), (20, 900), (21, 950)

    assert told(watts(), *readings) == [(500, 0), (0, 1), (900, 2), (950, 2)]


@pytest.mark.parametrize("larger_first", [True, False])
def test_two_counters_by_turns(larger_first: bool) -> None:
    """Nothing is counted across from one to the other, and soon both are refused by name."""
    counter = watts()
    readings = [(n, 5000 + n if n % 2 != larger_first else 100 + n) for n in range(12)]
    found = told(counter, *readings)
    epochs = [each and each[1] for each in found]

    for one, next_one in itertools.pairwise(epochs):
        assert one is None or next_one is None or one != next_one
    assert found[-4:] == [None] * 4
    with pytest.raises(BadReading, match="two meters"):
        counter.take(*readings[-1])


def test_one_of_the_two_is_left() -> None:
    """After some readings without a break it counts again."""
    counter = watts()
    told(counter, *((n, 5000 if n % 2 else 100) for n in range(12)))
    found = told(counter, *((12 + n, 5000 + n) for n in range(CALM + 2)))

    assert found[0] is None
    assert found[-1] is not None


def test_a_wrap_is_counted() -> None:
    """From 990 over 1000 to 20 are 30."""
    assert told(watts(wrap=1000.0), (0, 990), (1, 20), (2, 60)) == [(990, 0), (1020, 0), (1060, 0)]


def test_a_restart_is_no_wrap() -> None:
    """From 300 over 1000 to 20 would be 720: more than it can count in a second."""
    assert told(watts(wrap=1000.0), (0, 300), (1, 20)) == [(300, 0), (20, 1)]


def test_unseen_wraps() -> None:
    """After so long that it may have run over and past, nobody knows how much it counted."""
    assert told(watts(wrap=1000.0), (0, 300), (30, 400)) == [(300, 0), (400, 1)]


def test_rounding_is_held() -> None:
    """Within it the larger value stands."""
    assert told(watts(rounding=5.0), (0, 50), (1, 46), (2, 60)) == [(50, 0), (50, 0), (60, 0)]


def test_a_clock_that_goes_back() -> None:
    """Is a new epoch: time may not run backwards within one."""
    assert told(watts(), (100, 50), (40, 60)) == [(50, 0), (60, 1)]


def test_coarse_steps() -> None:
    """A counter of whole kilowatt-hours moves by 3.6 MJ, and that is no leap."""
    counter = watts()
    counter.take(0, 0.0)

    assert counter.take(600, 3.6e6, step=3.6e6) == 3.6e6
    assert counter.epoch == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(-10, 1e6) | st.just(math.nan)),
        min_size=2,
        max_size=60,
    )
)
def test_never_more_than_the_device_can_count(steps: list[tuple[float, float]]) -> None:
    """Whatever a sensor says: within an epoch the count never falls, nor outruns the device."""
    counter, at_s = watts(), 0.0
    last: tuple[float, float, int] | None = None
    for elapsed_s, value in steps:
        at_s += elapsed_s
        try:
            counted = counter.take(at_s, value)
        except BadReading:
            continue
        if last is not None and last[2] == counter.epoch:
            assert 0 <= counted - last[1] <= 100 * (at_s - last[0] + 1) * (1 + 1e-9)
        last = at_s, counted, counter.epoch
