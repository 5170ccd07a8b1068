"""What is learned: floors that follow, tokens that are told apart, and all of it kept."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.energy.learned import ENOUGH, Learned, Tokens
from policies.ladder import Depth

joules = st.floats(0.01, 10)


@given(joules, joules, st.integers(0, 1000))
def test_tokens_are_told_apart(prompt_j: float, answer_j: float, seed: int) -> None:
    """From sums over mixed stretches, within 2 %; the noise of a counter beside."""
    dice, tokens = random.Random(seed), Tokens()
    for _ in range(100):
        prompt, answer = dice.uniform(10, 2000), dice.uniform(10, 500)
        tokens.add(prompt, answer, prompt * prompt_j + answer * answer_j)
    found = tokens.joules()

    assert found is not None
    assert found[0] * 1000 + found[1] * 200 == pytest.approx(
        prompt_j * 1000 + answer_j * 200, rel=0.02
    )


def test_too_few_stretches_say_nothing() -> None:
    """And neither do those in which nothing was drawn."""
    tokens = Tokens()
    for _ in range(ENOUGH - 1):
        tokens.add(100, 100, 50)
    assert tokens.joules() is None

    nothing = Tokens()
    for _ in range(2 * ENOUGH):
        nothing.add(100, 100, 0.0)
    assert nothing.joules() is None


def test_requests_that_are_all_alike() -> None:
    """What tells the two apart is missing: the usual proportion stands in, the sum is right."""
    tokens = Tokens()
    for _ in range(20):
        tokens.add(1000, 100, 500)
    prompt_j, answer_j = tokens.joules() or (0.0, 0.0)

    assert prompt_j * 1000 + answer_j * 100 == pytest.approx(500, rel=0.01)
    assert prompt_j / answer_j == pytest.approx(0.025, rel=0.1)


@pytest.mark.parametrize("prompt", [0.0, 1e-12, 1e-6, 0.01])
def test_next_to_no_prompts(prompt: float) -> None:
    """What they draw cannot be seen: the usual proportion says it, not the rounding of sums."""
    tokens = Tokens()
    for n in range(20):
        tokens.add(prompt, 100, 50.0 + 0.01 * (n % 3))
    prompt_j, answer_j = tokens.joules() or (0.0, 0.0)

    assert answer_j == pytest.approx(0.5, rel=0.01)
    assert prompt_j == pytest.approx(0.025 * 0.5, rel=0.2)


@given(st.lists(st.tuples(*[st.floats(0, 1e4)] * 2, st.floats(-1e5, 1e5)), max_size=30))
def test_no_token_gives_energy_back(stretches: list[tuple[float, float, float]]) -> None:
    """Whatever the meter said."""
    tokens = Tokens()
    for stretch in stretches:
        tokens.add(*stretch)
    found = tokens.joules()

    assert found is None or (min(found) >= 0 and max(found) > 0)


def test_a_floor_follows() -> None:
    """A mean over some minutes: it forgets a cold morning, and no look is all."""
    learned = Learned()
    learned.see_floor(Depth.AWAKE, 1.0, 500.0)
    assert learned.floor_w(Depth.AWAKE) is None

    learned.see_floor(Depth.AWAKE, 300.0, 300.0 * 80)
    learned.see_floor(Depth.AWAKE, 10.0, 10.0 * 90)
    assert learned.floor_w(Depth.AWAKE) == pytest.approx(80.0, abs=0.5)

    for _ in range(200):
        learned.see_floor(Depth.AWAKE, 30.0, 30.0 * 70)
    assert learned.floor_w(Depth.AWAKE) == pytest.approx(70.0, abs=0.1)


def test_a_likely_floor_is_that_of_the_next_depth() -> None:
    """Where it was never seen; the meter's own model, where nothing was."""
    learned = Learned(idle_w=4.0)
    assert learned.likely_floor_w(Depth.AWAKE) == 4.0

    learned.see_floor(Depth.OFF, 30.0, 30.0 * 5)
    learned.see_floor(Depth.PARKED, 30.0, 30.0 * 6)
    assert learned.likely_floor_w(Depth.AWAKE) == 6.0
    assert learned.floor_w(Depth.AWAKE) is None


def test_it_is_kept() -> None:
    """The next daemon expects what this one did; rows of others are no concern of its."""
    learned = Learned()
    learned.see_floor(Depth.AWAKE, 30.0, 30.0 * 79)
    learned.see_move("waking off", 5.0, 750.0)
    learned.see_tail(5.0, 75.0)
    learned.see_serving(10.0, 1000.0)
    learned.see_pace(10.0, 500)
    for n in range(20):
        learned.tokens.add(100 + 10 * n, 50 - n, 200 + n)
    again = Learned.of({**learned.rows(), ("boost_w", ""): 41.0}, None)

    assert again.rows() == pytest.approx(learned.rows())
    assert again.floor_w(Depth.AWAKE) == pytest.approx(79.0)
    assert again.tokens.joules() == pytest.approx(learned.tokens.joules())
