"""Writes that must happen, in their order: tried until the disk takes them.

A full disk refuses new requests, which the sender is told. But the outcome of
one that ran exists already, and losing it would run the prompt again; so it
waits here, and everything after it, until there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sqlite_utils import Database

from appliance.clock import Clock
from appliance.errors import StorageFailed
from appliance.store import Store, Work

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_MIN_S, RETRY_MAX_S = 0.5, 5.0
"""A try costs milliseconds; everybody waits for the one that finds room."""

SPOKEN_EVERY_S = 600.0


class Journal:
    """`put` from the loop; `run` carries it out, a batch to a commit."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._works: deque[tuple[Work[Any], asyncio.Future[Any]]] = deque()
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def put(self, work: Work[T], done: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Have `work` committed after everything put before; then call `done`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if done is not None:
            future.add_done_callback(lambda f: f.cancelled() or done(f.result()))
        self._works.append((work, future))
        self._news.set()
        return future

    async def run(self) -> None:
        """Carry out what is put, until `close`.

        Raises StorageFailed if the disk does not take the rest of it then.
        """
        while not (self._closing.is_set() and not self._works):
            if not self._works:
                self._news.clear()
                await self._news.wait()
                continue
            batch = list(self._works)
            results = await self._commit([work for work, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                self._works.popleft()
                if not future.cancelled():
                    future.set_result(result)

    def close(self) -> None:
        """Let `run` return once everything is committed, or cannot be."""
        self._closing.set()
        self._news.set()

    async def _commit(self, works: list[Work[Any]]) -> list[Any]:
        """All or none, in order; again and again."""

        def all_of_them(db: Database) -> list[Any]:
            return [work(db) for work in works]

        pause_s, began_s = RETRY_MIN_S, self._clock.now()
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
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                if spoken_s is not None:
                    log.info("stored after all, after %.0f s", self._clock.now() - began_s)
                return results

    async def _pause(self, seconds: float) -> None:
        """Let them pass, unless `close` comes."""
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._clock.sleep_until(self._clock.now() + seconds))
            closing = tasks.create_task(self._closing.wait())
            await asyncio.wait((timer, closing), return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            closing.cancel()
