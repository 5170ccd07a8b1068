"""The journal: order kept, nothing lost while the disk refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.errors import StorageFailed
from appliance.journal import Journal
from appliance.store import Store, Work
from tests.fake_clock import FakeClock, settled


class FullDisk(Store):
    """Refuses every write while `full`."""

    full = True

    def write(self, work: Work[Any]) -> asyncio.Future[Any]:
        if not self.full:
            return super().write(work)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StorageFailed("database or disk is full"))
        return future


async def test_outcomes_wait_for_the_disk_in_their_order(tmp_path: Path) -> None:
    """While it is full nothing is lost; then everything is written, first things first."""
    clock, store = FakeClock(), FullDisk(tmp_path / "a.db")
    await store.open()
    journal = Journal(store, clock)
    written: list[int] = []
    done: list[int] = []

    def writes(n: int) -> Callable[[Any], int]:
        def work(_: Any) -> int:
            written.append(n)
            return n

        return work

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(journal.run())
        futures = [journal.put(writes(n), done.append) for n in range(3)]
        await clock.advance(120)
        assert written == []

        store.full = False
        await clock.advance(60)
        assert await futures[2] == 2
        await settled()
        assert written == done == [0, 1, 2]

        journal.put(writes(3))
        journal.close()
        await running
    assert written[-1] == 3
    await store.close()
