"""Traces replayed: to the joule, and the best timeout by trying all of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.always_on import AlwaysOn
from policies.fixed import Fixed
from policies.ladder import Depth, Gap, Ladder, Now, Policy
from policies.replay import (
    Trace,
    Visit,
    best_fixed,
    best_timeout_s,
    foreseen_j,
    quantile_s,
    replay,
)
from tests.policies.ladders import LAMBDAS, ladders, two_rungs

LADDER = two_rungs(180.0)  # 40 W, 7 200 J and 10 s


def traced(*gaps: tuple[float, bool]) -> Trace:
    trace = Trace("made up", requests=1)
    for idle_s, person in gaps:
        trace.add(Visit(idle_s, 0, 5.0, person))
        trace.requests += 1
    trace.span_s = sum(idle_s for idle_s, _ in gaps) + 5.0 * trace.requests
    return trace


def test_a_trace_is_paid_for_gap_by_gap() -> None:
    """Two rests of people and one of batch work, for which nobody waits."""
    trace = traced((100.0, True), (400.0, True), (500.0, False), (1000.0, True))
    tally = replay(Fixed(idle_timeout_s=300.0), LADDER, trace, 100.0)

    assert tally.excess_j == 100 * 40 + 3 * (300 * 40 + 7200)
    assert tally.cost_j == tally.excess_j + 2 * 10 * 100
    assert tally.wakes == 3
    assert tally.waits == {10.0: 2}
    assert foreseen_j(LADDER, trace, 100.0) == 100 * 40 + 2 * (7200 + 1000) + 7200


def test_a_quantile_is_of_all_requests() -> None:
    """Those who did not wait are most."""
    trace = traced(*[(10.0, True)] * 97, (400.0, True), (400.0, True))
    tally = replay(Fixed(idle_timeout_s=300.0), LADDER, trace, 100.0)

    assert trace.requests == 100
    assert [quantile_s(tally, trace, share) for share in (0.5, 0.97, 0.99, 1.0)] == [0, 0, 10, 10]


def test_a_policy_is_told_what_it_was_asked() -> None:
    """The gap carries ladder and circumstances, and where the arrival found it."""
    seen: list[Gap] = []

    class Listens(Fixed):
        def observe(self, gap: Gap) -> Listens:
            seen.append(gap)
            return self

    trace = traced((400.0, True))
    replay(Listens(idle_timeout_s=300.0), LADDER, trace, 7.0)

    assert seen == [Gap(400.0, Depth.OFF, LADDER, Now(lambda_w=7.0, busy_s=5.0))]


@settings(max_examples=150, deadline=None)
@given(
    ladders(),
    st.lists(
        st.tuples(st.one_of(st.integers(1, 5).map(float), st.floats(0.01, 1e4)), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    LAMBDAS,
)
def test_no_timeout_is_better_than_the_best(
    ladder: Ladder, gaps: list[tuple[float, bool]], lambda_w: float
) -> None:
    """Of all that could make a difference; it costs what the search has said."""
    trace = traced(*gaps)
    found_j = replay(best_fixed(ladder, trace, lambda_w), ladder, trace, lambda_w).cost_j
    others: list[Policy] = [AlwaysOn()]
    for idle_s, _ in gaps:
        others += [
            Fixed(idle_timeout_s=max(0.0, after_s))
            for after_s in (0.0, idle_s, math.nextafter(idle_s, 0), idle_s - 0.5, idle_s / 2)
        ]
    least_j = min(replay(other, ladder, trace, lambda_w).cost_j for other in others)
    # Between two lengths nothing is gained, but where somebody would meet it as it settles.
    if all(rung.enter_s == 0 for rung in ladder):
        assert found_j <= least_j + 1e-6 * (1 + least_j)
    assert found_j == pytest.approx(min(found_j, *_candidates_j(ladder, trace, lambda_w)))


def _candidates_j(ladder: Ladder, trace: Trace, lambda_w: float) -> list[float]:
    timeouts: list[Policy] = [AlwaysOn()]
    timeouts += [Fixed(idle_timeout_s=after_s) for after_s in (0.0, *trace.idle_s)]
    return [replay(policy, ladder, trace, lambda_w).cost_j for policy in timeouts]


def test_never_resting_may_be_best() -> None:
    """Then it is said so; also where a timeout would do as well that is never reached."""
    trace = traced((100.0, True), (150.0, True))

    assert best_timeout_s(LADDER, trace, 0.0) == math.inf
    assert best_timeout_s((LADDER[0],), trace, 0.0) == math.inf
    assert best_fixed(LADDER, trace, 0.0) == AlwaysOn("best_fixed")
