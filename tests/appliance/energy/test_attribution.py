"""Sharing: whatever goes in, what comes out adds up; and who should have it, has it."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.energy.attribution import TAIL_S, Part, Shared, Sight, parted, share, tail_between_s

JOULES = st.floats(0, 1e9)
SECONDS = st.floats(0, 1e6)
WATTS = st.floats(0, 1e4)

parts = st.builds(
    Part,
    seconds=SECONDS,
    floor_w=st.none() | WATTS,
    working_s=SECONDS,
    expected_j=st.none() | st.floats(-1e6, 1e6),
)


@given(JOULES, st.lists(parts, min_size=1, max_size=8), WATTS | st.just(math.inf))
@example(2.0, [Part(1e-308, None)], math.inf)
@example(2.0, [Part(1.0, None, 1e-308, None)], math.inf)
def test_nothing_is_lost_or_made(counted_j: float, shared_by: list[Part], most_w: float) -> None:
    """Σ shares is what was counted, and none is negative."""
    shares = share(counted_j, shared_by, most_w)

    assert math.fsum(s.floor_j + s.above_j for s in shares) == pytest.approx(counted_j, rel=1e-9)
    assert all(s.floor_j >= 0 and s.above_j >= 0 for s in shares)


@given(st.floats(0.1, 1e4), WATTS, WATTS)
def test_above_the_floor_is_who_worked(seconds: float, floor_w: float, above_w: float) -> None:
    """One part works, one rests: the floor is paid by both, the rest by who worked."""
    resting, working = Part(seconds, floor_w), Part(seconds, floor_w, seconds, None)
    counted_j = seconds * (2 * floor_w + above_w)
    rest, work = share(counted_j, [resting, working])

    assert rest.floor_j == pytest.approx(seconds * floor_w)
    assert rest.above_j == 0
    assert work.above_j == pytest.approx(seconds * above_w, abs=1e-9 + 1e-6 * counted_j)


def test_by_expectation_or_by_time() -> None:
    """Two that worked: by what was expected of them; by time, if of one nobody knows."""
    short, long = Part(1.0, 0.0, 1.0, 30.0), Part(3.0, 0.0, 3.0, 10.0)

    assert share(80.0, [short, long]) == [Shared(0.0, 60.0), Shared(0.0, 20.0)]

    nobody_knows = Part(3.0, 0.0, 3.0, None)

    assert share(80.0, [short, nobody_knows]) == [Shared(0.0, 20.0), Shared(0.0, 60.0)]


def test_less_than_the_floor_is_all_floor() -> None:
    """In proportion: whoever worked has drawn nothing for it."""
    assert share(30.0, [Part(1.0, 20.0), Part(2.0, 20.0, 2.0, 5.0)]) == [
        Shared(10.0, 0.0),
        Shared(20.0, 0.0),
    ]


def test_nobody_draws_more_than_the_device() -> None:
    """A move of a millisecond beside ten seconds that drew too much: it was the floor."""
    rest, move = share(200.0, [Part(10.0, 10.0), Part(0.001, 10.0, 0.001, None)], most_w=100.0)

    assert move.above_j == pytest.approx(0.1)
    assert rest.floor_j == pytest.approx(199.9, rel=1e-3)
    assert rest.above_j == 0


def test_a_floor_that_nobody_knows_is_the_mean() -> None:
    """So a move beside an unknown rest has its part of the time."""
    assert share(90.0, [Part(1.0, None), Part(2.0, None, 2.0, None)]) == [
        Shared(30.0, 0.0),
        Shared(60.0, 0.0),
    ]


def test_nobody_to_share_with() -> None:
    """That is a mistake of the caller's."""
    with pytest.raises(ValueError, match="nothing"):
        share(1.0, [])


def test_parted_evenly_where_nothing_is_known() -> None:
    """By the weights, else by the others, else evenly; to nobody, nothing."""
    assert parted(6.0, [1.0, 2.0], [0.0, 0.0]) == [2.0, 4.0]
    assert parted(6.0, [0.0, 0.0], [2.0, 1.0]) == [4.0, 2.0]
    assert parted(6.0, [0.0, 0.0], [0.0, 0.0]) == [3.0, 3.0]
    assert parted(6.0, [], []) == []


@given(st.floats(0, 100), st.floats(0.01, 100), st.floats(0, 5), st.floats(0, 120))
def test_all_of_a_span_is_seen_in_the_end(
    start_s: float, seconds: float, window_s: float, look_s: float
) -> None:
    """Before it nothing, a window after it all, never less at a later look."""
    sight, end_s = Sight(window_s), start_s + seconds
    now_s = sight.seen_s(start_s, end_s, look_s)

    assert sight.seen_s(start_s, end_s, start_s) == 0
    assert sight.seen_s(start_s, end_s, end_s + window_s) == pytest.approx(seconds)
    assert -1e-9 <= now_s <= seconds + 1e-9
    assert sight.seen_s(start_s, end_s, look_s + 0.5) >= now_s - 1e-9


@given(st.floats(0, 5), st.lists(st.floats(0.01, 30), min_size=1, max_size=10))
def test_spans_that_follow_one_another_fill_the_time(window_s: float, pieces: list[float]) -> None:
    """Between two looks so many seconds are seen as there are, however blurred."""
    sight, at_s, edges = Sight(window_s), 0.0, [-math.inf]
    for seconds in pieces:
        at_s += seconds
        edges.append(at_s)
    edges[0] = -1000.0
    edges.append(at_s + 1000.0)
    seen_s = math.fsum(
        sight.between_s(start_s, end_s, 0.3 * at_s, 1.2 * at_s)
        for start_s, end_s in itertools.pairwise(edges)
    )

    assert seen_s == pytest.approx(0.9 * at_s)


@given(st.floats(0, 2), st.floats(0.1, 20))
def test_a_tail_falls(window_s: float, ends_after_s: float) -> None:
    """All of it is half its time at full height; what ends it early leaves the higher part."""
    sight = Sight(window_s)
    seconds, height_s = tail_between_s(sight, 0.0, math.inf, -1.0, 100.0)

    assert seconds == pytest.approx(TAIL_S)
    assert height_s == pytest.approx(TAIL_S / 2)

    seconds, height_s = tail_between_s(sight, 0.0, ends_after_s, -1.0, 100.0)

    assert seconds == pytest.approx(min(ends_after_s, TAIL_S))
    assert height_s >= seconds / 2 - 1e-9
