"""Requests that come close together go to the engine together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from appliance.config import Inbox
from appliance.machine.gathering import Gathering
from tests.benches import bench, configured, served
from tests.fake_clock import FakeClock, settled


async def test_the_first_opens_the_window_for_all() -> None:
    """All go when it closes; who comes later opens another."""
    clock, gone = FakeClock(), []
    gathering = Gathering(0.1, clock)

    async def come(name: str) -> None:
        await gathering.join()
        gone.append((name, clock.now()))

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b", "c"):
            tasks.create_task(come(name))
            await clock.advance(0.04)
        await clock.advance(0.1)
        tasks.create_task(come("d"))
        await clock.advance(0.2)

    assert [name for name, _ in gone] == ["a", "b", "c", "d"]
    assert [round(at_s, 3) for _, at_s in gone] == [0.1, 0.1, 0.1, 0.32]


async def test_who_opened_it_may_leave() -> None:
    """Cancelled, he takes nobody with him."""
    clock = FakeClock()
    gathering = Gathering(0.1, clock)
    first = asyncio.ensure_future(gathering.join())
    await settled()
    second = asyncio.ensure_future(gathering.join())
    await settled()
    first.cancel()
    await settled()

    assert second.done()


async def test_without_a_window_nobody_waits(tmp_path: Path) -> None:
    """The default; with one, an awake engine gets what came within it at once."""
    async with bench(tmp_path) as b:
        await b.send("wake up")
        assert len(served(b.engine)) == 1

    patient = msgspec.structs.replace(configured(tmp_path), inbox=Inbox(batch_window_ms=100))
    async with bench(tmp_path / "patient", config=patient) as b:
        await b.send("wake up")
        await b.clock.advance(0.1)
        await b.send("one")
        await b.clock.advance(0.05)
        await b.send("two")
        assert len(served(b.engine)) == 1

        await b.clock.advance(0.05)
        assert len(served(b.engine)) == 3
        assert set((await b.states()).values()) == {"done"}
