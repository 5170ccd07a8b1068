"""Deadlines come in time, and what has ended before its own is not kept until then."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.machine.deadlines import SWEEP_LEAST, Deadlines
from appliance.machine.roster import Entry
from drivers.fake import FakeEngine
from tests.appliance.machine.entries import entry
from tests.benches import bench
from tests.fake_clock import FakeClock, settled
from tests.memory import count

MONTH_S = 30 * 86400.0


async def test_what_has_ended_is_forgotten_long_before_its_time() -> None:
    """Ten thousand requests with a month each, answered at once, take no room; others expire."""
    clock, expired = FakeClock(), []
    deadlines = Deadlines(clock, lambda entry: expired.append(entry.id))
    running = asyncio.create_task(deadlines.run())
    late, soon = entry("late", deadline_s=2 * MONTH_S), entry("soon", deadline_s=5.0)
    deadlines.watch(late)
    for number in range(10_000):
        answered = entry(str(number), deadline_s=MONTH_S)
        deadlines.watch(answered)
        answered.ended = True
    deadlines.watch(soon)
    await settled()
    del answered

    assert count(Entry) <= SWEEP_LEAST + 2
    await clock.advance(6.0)
    assert expired == ["soon"]
    await clock.advance(2 * MONTH_S)
    assert expired == ["soon", "late"]
    running.cancel()


async def test_the_text_of_what_has_ended_is_not_kept(tmp_path: Path) -> None:
    """However long something still knows of the request."""
    async with bench(tmp_path) as b:
        receipt = await b.send({"prompt": FakeEngine.ENDLESS, "wattnap": {"deadline_s": MONTH_S}})
        found = b.supervisor._roster.find(("mqtt", "", receipt.id))
        assert found is not None
        assert found.body
        assert await b.intake.cancel("mqtt", "", receipt.id)

        assert found.body is None
