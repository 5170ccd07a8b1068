"""Writes that must happen, in their order: tried until the disk takes them.

A full disk refuses new requests, which the sender is told. But the outcome of
one that ran exists already, and losing it would run the prompt again; so it
waits here, and everything after it, until there is room. How much that can be,
the inbox bounds. Rows that only the ledger has come without end, from live calls
and from the engine's moves: of them the newest MAX_ROWS wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from appliance.clock import Clock
from appliance.errors import StorageFailed
from appliance.storage.sql import Database
from appliance.storage.store import Store, Work
from appliance.timers import sleep_until_or

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_MIN_S, RETRY_MAX_S = 0.5, 5.0
"""A try costs milliseconds; everybody waits for the one that finds room."""

SPOKEN_EVERY_S = 600.0

MAX_ROWS = 5000
"""Some 6 MB of them. Half an hour of a live call per second, with what it was metered."""


class _Put(NamedTuple):
    work: Work[Any]
    future: asyncio.Future[Any]
    may_be_lost: bool


class Journal:
    """`put` from the loop; `run` carries it out, a batch to a commit.

    lost  rows that the ledger will never have
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.lost = 0
        self._store, self._clock = store, clock
        self._works: deque[_Put] = deque()
        self._trying = 0
        """The first of them, which are on their way to the disk."""
        self._losable = 0
        """Of the others."""
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def put(
        self,
        work: Work[T],
        done: Callable[[T], None] | None = None,
        *,
        may_be_lost: bool = False,
    ) -> asyncio.Future[T]:
        """Have `work` committed after everything put before; then call `done`.

        `may_be_lost`: it is a row that nothing but the ledger needs. When too many of
        them wait, the oldest is dropped, and its future cancelled.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if done is not None:
            future.add_done_callback(lambda f: f.cancelled() or done(f.result()))
        self._works.append(_Put(work, future, may_be_lost))
        self._losable += may_be_lost
        if self._losable > MAX_ROWS:
            self._lose_one()
        self._news.set()
        return future

    def _lose_one(self) -> None:
        """The oldest that may be lost."""
        others = enumerate(islice(self._works, self._trying, None), self._trying)
        place, oldest = next((place, put) for place, put in others if put.may_be_lost)
        del self._works[place]
        oldest.future.cancel()
        self._losable -= 1
        self.lost += 1

    async def run(self) -> None:
        """Carry out what is put, until `close`.

        Raises StorageFailed if the disk does not take the rest of it then, and what a
        work raises that must not be lost: after the next start its request runs again.
        """
        while not (self._closing.is_set() and not self._works):
            if not self._works:
                self._news.clear()
                await self._news.wait()
                continue
            batch = list(self._works)
            self._trying, self._losable = len(batch), 0
            try:
                results = await self._commit([put.work for put in batch])
            except StorageFailed:
                raise
            except Exception:  # noqa: BLE001 - whatever one of them raised, the others are due
                await self._one_by_one(batch)
            else:
                for put, result in zip(batch, results, strict=True):
                    self._conclude(put, result)
            self._trying = 0

    async def _one_by_one(self, batch: list[_Put]) -> None:
        """One of them cannot be written, ever: only a row of the ledger may be missing for it."""
        for put in batch:
            try:
                (result,) = await self._commit([put.work])
            except StorageFailed:
                raise
            except Exception:
                if not put.may_be_lost:
                    raise
                log.exception("a row of the ledger cannot be written, and is lost")
                self.lost += 1
                put.future.cancel()
                result = None
            self._conclude(put, result)

    def _conclude(self, put: _Put, result: object) -> None:
        self._works.popleft()
        if not put.future.cancelled():
            put.future.set_result(result)

    def close(self) -> None:
        """Let `run` return once everything is committed, or cannot be."""
        self._closing.set()
        self._news.set()

    async def _commit(self, works: list[Work[Any]]) -> list[Any]:
        """All or none, in order; again and again."""

        def all_of_them(db: Database) -> list[Any]:
            return [work(db) for work in works]

        pause_s, began_s, lost_before = RETRY_MIN_S, self._clock.now(), self.lost
        spoken_s: float | None = None
        while True:
            try:
                results = await self._store.write(all_of_them)
            except StorageFailed as error:
                if self._closing.is_set():
                    raise StorageFailed(
                        f"{error}; {len(works)} changes are lost, and requests that had"
                        " an answer among them run again after the next start"
                    ) from error
                if spoken_s is None or self._clock.now() - spoken_s >= SPOKEN_EVERY_S:
                    spoken_s = self._clock.now()
                    log.error("%s; what has ended waits for it", error)  # noqa: TRY400
                    if lost := self.lost - lost_before:
                        log.error("%d rows of the ledger are lost by now", lost)  # noqa: TRY400
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                if spoken_s is not None:
                    log.info("stored after all, after %.0f s", self._clock.now() - began_s)
                    if lost := self.lost - lost_before:
                        log.error("%d rows of the ledger are lost", lost)
                return results

    async def _pause(self, seconds: float) -> None:
        """Let them pass, unless `close` comes."""
        await sleep_until_or(self._clock, self._clock.now() + seconds, self._closing)
