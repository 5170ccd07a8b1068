"""Several requests that end in the same moment leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.machine.lifecycle import State
from drivers.fake import FakeEngine
from policies.ladder import Depth
from tests.benches import IDLE_S, bench


def timetables() -> int:
    return sum(task.get_name() == "timetable" for task in asyncio.all_tasks())


@pytest.mark.timeout(20)  # with a timetable too many the daemon does not stop
async def test_two_cancelled_at_once_leave_one_timetable(tmp_path: Path) -> None:
    """A second one would rest the engine early, and hold up the daemon's stop until it ends."""
    async with bench(tmp_path) as b:
        both = [await b.send(FakeEngine.ENDLESS) for _ in range(2)]
        for receipt in both:
            assert await b.intake.cancel("mqtt", "", receipt.id)
        await b.quiet()

        assert timetables() == 1
        await b.clock.advance(IDLE_S / 2)
        await b.send("hello")
        await b.clock.advance(IDLE_S - 1)
        assert b.where == (State.AWAKE, Depth.AWAKE)
        async with asyncio.timeout(5):
            await b.clock.advance(2)
    assert timetables() == 0
