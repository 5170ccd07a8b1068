"""The latest moment to wake for those who wait: pure, with made-up crowds."""

from __future__ import annotations

import heapq
import random

from hypothesis import given
from hypothesis import strategies as st

from appliance.machine.deferral import Pace, latest_start_s
from tests.appliance.machine.entries import entry

seconds = st.floats(0.1, 1e5)


@given(
    slacks=st.lists(st.none() | seconds, min_size=1, max_size=30),
    places=st.integers(1, 8),
    wake_s=st.floats(0, 200),
    service_s=st.floats(0.01, 100),
    margin_s=st.floats(0, 300),
    max_wait_s=seconds,
    order=st.randoms(use_true_random=False),
)
def test_whoever_starts_at_the_latest_is_in_time(
    slacks: list[float | None],
    places: int,
    wake_s: float,
    service_s: float,
    margin_s: float,
    max_wait_s: float,
    order: random.Random,
) -> None:
    """In whatever order they are served, if wake and answers take no longer than expected."""
    now_s = 1000.0
    entries = [
        entry(str(number), klass="batch", at_s=now_s, deadline_s=slack)
        for number, slack in enumerate(slacks)
    ]
    pace = Pace(wake_s=wake_s, service_s=service_s, places=places, margin_s=margin_s)

    start_s = latest_start_s(entries, max_wait_s, pace)

    assert start_s <= now_s + max_wait_s
    free_s = [start_s + wake_s] * places
    order.shuffle(entries)
    for one in entries:
        ended_s = heapq.heappop(free_s) + order.uniform(0, service_s)
        heapq.heappush(free_s, ended_s)
        if one.deadline_at_s is not None:
            assert ended_s <= one.deadline_at_s - margin_s + 1e-6


def test_nobody_waits() -> None:
    pace = Pace(wake_s=1, service_s=1, places=1, margin_s=1)

    assert latest_start_s([], 10, pace) == float("inf")
