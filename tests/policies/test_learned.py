"""`learned`: what it may lose, and what it gains."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.breakeven import Breakeven
from policies.course import clairvoyant_j, course
from policies.forecast import EDGES_S, Forecast
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Rung, Step
from policies.learned import MOST_MERIT, SLACK, Learned
from tests.policies.ladders import ladders, two_rungs

LADDER = two_rungs(180.0)
UNIT_J = 180.0 * 40.0


def paid_j(policy: Policy, gaps_s: Iterable[float], ladder: Ladder = LADDER) -> float:
    """In all, of a policy that sees each of them when it is over."""
    total_j, at_s = 0.0, 0.0
    for idle_s in gaps_s:
        now = Now(lambda_w=0.0, minute_of_week=int(at_s / 60) % 10080, busy_s=5.0)
        spent = course(ladder, policy.plan(ladder, now)).spent(idle_s)
        policy = policy.observe(Gap(idle_s, spent.depth, ladder, now))
        total_j += spent.excess_j
        at_s += 5.0 + idle_s
    return total_j


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.one_of(
                    st.floats(0.01, 2000.0), st.sampled_from([179.9, 180.1, 60.0, 100.1, 5e4])
                ),
                min_size=1,
                max_size=5,
            ),
            st.integers(1, 30),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_it_never_loses_more_than_it_may(parts: list[tuple[list[float], int]]) -> None:
    """Against break-even, whatever comes: a share of its cost, and a bit."""
    gaps_s = [idle_s for some_s, times in parts for _ in range(times) for idle_s in some_s]
    most_j = (1 + SLACK) * paid_j(Breakeven(), gaps_s) + (1 + MOST_MERIT) * UNIT_J

    assert paid_j(Learned(), gaps_s) <= most_j + 1e-6


def test_it_begins_as_break_even() -> None:
    """Before it has seen anything, and on a ladder of any length."""
    ladder = (
        Rung(depth=Depth.AWAKE, power_w=40.0),
        Rung(depth=Depth.PARKED, power_w=20.0, wake_j=400.0),
        Rung(depth=Depth.OFF, power_w=0.0, wake_j=4000.0),
    )

    assert Learned().plan(ladder, Now()) == Breakeven().plan(ladder, Now())
    assert len(Learned().plan(ladder, Now())) == 3


@pytest.mark.parametrize(
    ("kind", "most"),
    [("far apart", 1.05), ("just too long", 1.05), ("close together", 1.02), ("by turns", 1.10)],
)
def test_what_comes_regularly_is_learned(kind: str, most: float) -> None:
    """Within so much of the clairvoyant; break-even pays twice where gaps are long."""
    gaps_s = {
        "far apart": [600.0] * 500,
        "just too long": [190.0] * 500,
        "close together": [170.0] * 500,
        "by turns": [5.0, 5.0, 5.0, 1000.0] * 125,
    }[kind]
    least_j = sum(clairvoyant_j(LADDER, idle_s, 0.0) for idle_s in gaps_s)

    assert paid_j(Learned(), gaps_s) <= most * least_j


def test_habits_that_change_are_followed() -> None:
    """Bursts for a day, then a visitor every ten minutes, and bursts again."""
    dice = random.Random(7)
    bursts_s = [
        dice.uniform(1.0, 30.0) if i % 8 else dice.uniform(1000.0, 5000.0) for i in range(400)
    ]
    gaps_s = [*bursts_s, *[600.0] * 400, *bursts_s]

    assert paid_j(Learned(), gaps_s) <= 0.75 * paid_j(Breakeven(), gaps_s)


def test_the_hour_tells() -> None:
    """By day gaps are short, at night long: it learns to rest at once in the evening only."""
    policy: Learned = Learned()
    for hour in [9, 10, 11, 22, 23] * 120:
        idle_s = 100.0 if hour < 20 else 20_000.0
        now = Now(minute_of_week=hour * 60, lambda_w=0.0, busy_s=5.0)
        policy = policy.observe(Gap(idle_s, Depth.AWAKE, LADDER, now))
    # What came just before says the same at both hours.
    day_s, night_s = (
        policy.plan(LADDER, Now(minute_of_week=hour * 60, lambda_w=0.0, busy_s=5.0))[-1].after_s
        for hour in (10, 23)
    )

    assert day_s >= 100.0
    assert night_s <= 20.0


def test_it_is_a_value_of_a_fixed_size() -> None:
    """Observing changes nothing that was there, and adds nothing that grows."""
    policy = Learned()
    first = policy.plan(LADDER, Now())
    later = policy
    for i in range(300):
        later = later.observe(Gap(1.5 ** (i % 30), Depth.AWAKE, LADDER, Now()))

    assert policy.plan(LADDER, Now()) == first
    assert policy.accounts == ()
    assert len(later.accounts) == 1
    assert len(later.forecast.counts) == len(policy.forecast.counts)
    assert {len(counts.by_span) for counts in later.forecast.counts} == {len(EDGES_S)}


@settings(max_examples=40, deadline=None)
@given(ladders(), st.lists(st.floats(0.01, 1e6), max_size=30))
def test_it_plans_on_any_ladder(ladder: Ladder, gaps_s: list[float]) -> None:
    """Steps in order of time, to rungs of the envelope, with prices of 0 and without edges."""
    policy = Learned()
    for idle_s in gaps_s:
        policy = policy.observe(Gap(idle_s, Depth.AWAKE, ladder, Now()))
    steps = policy.plan(ladder, Now())

    assert [step.depth for step in steps] == [
        step.depth for step in Breakeven().plan(ladder, Now())
    ]
    assert [step.after_s for step in steps] == sorted(step.after_s for step in steps)


def test_what_costs_nothing_is_done_at_once() -> None:
    """A rung without a price needs no account."""
    ladder = (LADDER[0], Rung(depth=Depth.OFF, power_w=0.0))
    policy = Learned().observe(Gap(50.0, Depth.OFF, ladder, Now()))

    assert policy.plan(ladder, Now()) == (Step(0.0, Depth.AWAKE), Step(0.0, Depth.OFF))
    assert policy.accounts[0].own == 0.0


def test_a_gap_for_which_nothing_was_asked_teaches_the_forecast_only() -> None:
    """From the log of days when another policy ruled."""
    policy = Learned().observe(Gap(600.0))

    assert policy.accounts == ()
    assert policy.forecast.latest != Forecast().latest


def test_what_is_foretold_is_a_probability() -> None:
    """All spans together are 1, before and after."""
    forecast = Forecast()
    for idle_s in (0.0, 0.5, 30.0, 1e9, 400.0):
        forecast = forecast.observe(idle_s, Now(minute_of_week=10_079, busy_s=1e6))
        whole = forecast.expect(Now(), 1e12)

        assert len(whole) == len(EDGES_S)
        assert sum(whole) == pytest.approx(1.0)
        assert min(whole) > 0.0
    assert sum(forecast.trust) == pytest.approx(1.0)
    assert sum(forecast.shapes) == pytest.approx(1.0)


def test_an_edge_that_is_new_has_an_account_of_its_own() -> None:
    """A rung that is offered again later finds what it left; the others theirs."""
    three = (LADDER[0], Rung(depth=Depth.PARKED, power_w=20.0, wake_j=100.0), LADDER[1])
    policy = Learned()
    for idle_s in (50.0, 400.0):
        policy = policy.observe(Gap(idle_s, Depth.AWAKE, LADDER, Now(lambda_w=0.0)))
    before = {account.depth: account.breakeven for account in policy.accounts}
    policy = policy.observe(Gap(400.0, Depth.AWAKE, three, Now(lambda_w=0.0)))
    after = {account.depth: account.breakeven for account in policy.accounts}

    assert set(before) == {Depth.OFF}
    assert set(after) == {Depth.PARKED, Depth.OFF}
    assert after[Depth.OFF] > before[Depth.OFF] > 0.0
    assert policy.plan(three, Now())[0] == Step(0.0, Depth.AWAKE)
