"""The journal: order kept, nothing lost while the disk refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StorageFailed
from appliance.storage.journal import MAX_ROWS, Journal
from appliance.storage.store import Store, Work
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


async def test_of_rows_that_may_be_lost_the_newest_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long the disk is full; all else is written, and the log says how many are lost."""
    clock, store = FakeClock(), FullDisk(tmp_path / "a.db")
    await store.open()
    journal = Journal(store, clock)
    written: list[int] = []

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(journal.run())
        journal.put(lambda _: written.append(-1), may_be_lost=True)
        await settled()  # that one is being tried
        for number in range(MAX_ROWS + 300):
            must = number % 1000 == 0
            journal.put(lambda _, n=number: written.append(n), may_be_lost=not must)  # type: ignore[misc]
        await clock.advance(1200)
        assert "rows of the ledger are lost by now" in caplog.text
        store.full = False
        await clock.advance(10)
        journal.close()
        await running
    await store.close()

    musts = [number for number in range(MAX_ROWS + 300) if number % 1000 == 0]
    lost = MAX_ROWS + 300 - len(musts) - MAX_ROWS
    assert journal.lost == lost
    assert written == [-1, *(n for n in range(MAX_ROWS + 300) if n > lost or n in musts)]
    assert f"{lost} rows of the ledger are lost" in caplog.messages


@pytest.mark.parametrize("may_be_lost", [True, False])
async def test_a_row_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, may_be_lost: bool
) -> None:
    """If only the ledger needs it, it is left out, with a word in the log; the others are not."""
    store = Store(tmp_path / "a.db")
    await store.open()
    journal = Journal(store, FakeClock())

    def impossible(_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    before = journal.put(lambda _: 1)
    bad = journal.put(impossible, may_be_lost=may_be_lost)
    after = journal.put(lambda _: 2)
    journal.close()
    if may_be_lost:
        await journal.run()

        assert (await before, bad.cancelled(), await after) == (1, True, 2)
        assert journal.lost == 1
        assert "cannot be written" in caplog.text
    else:
        with pytest.raises(UnicodeEncodeError):
            await journal.run()

        assert await before == 1
    await store.close()
