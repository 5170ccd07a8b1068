"""The system's clock, with real timers."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from appliance.clock import SystemClock, iso, seconds_between
from appliance.ids import new_id
from tests.fake_clock import FakeClock


def test_now_counts_suspend() -> None:
    """It is CLOCK_BOOTTIME, not CLOCK_MONOTONIC."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)

    assert before <= SystemClock().now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_sleep_until_arrives_and_leaves_no_descriptor() -> None:
    """Never early; in the past: at once; cancelled: clean."""
    clock = SystemClock()
    start = clock.now()
    await clock.sleep_until(start - 1)
    await clock.sleep_until(start + 0.05)
    assert clock.now() >= start + 0.05

    task = asyncio.ensure_future(clock.sleep_until(start + 3600))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_synced_is_a_plain_answer() -> None:
    """The kernel is asked; it says yes or no."""
    assert SystemClock().synced() in {True, False}


def test_iso_is_utc_with_milliseconds() -> None:
    """And two of them can be subtracted."""
    assert iso(datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)) == "2026-01-02T03:04:05.006Z"
    assert seconds_between("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.500Z") == 86400.5


async def test_ids_sort_by_time_and_differ() -> None:
    """UUIDs of version 7."""
    clock = FakeClock()
    first = [new_id(clock) for _ in range(100)]
    await clock.advance(1)
    later = new_id(clock)

    assert len(set(first)) == 100
    assert max(first) < later
    assert later[14] == "7"
    assert later[19] in "89ab"
