"""One timer, for the earliest deadline of all that wait or run."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from appliance.clock import Clock
from appliance.roster import Entry

SWEEP_LEAST = 64


class Deadlines:
    """`watch` an entry; when its time has come and it has not ended, `expire` is called.

    What has ended is forgotten long before its time: a sender may give each request a month.
    """

    def __init__(self, clock: Clock, expire: Callable[[Entry], object]) -> None:
        self._clock, self._expire = clock, expire
        self._watched: list[tuple[float, int, Entry]] = []
        self._order = count()
        self._earlier = asyncio.Event()
        self._sweep_at = SWEEP_LEAST

    def watch(self, entry: Entry) -> None:
        if entry.deadline_at_s is None:
            return
        if len(self._watched) >= self._sweep_at:
            self._sweep()
        heapq.heappush(self._watched, (entry.deadline_at_s, next(self._order), entry))
        if self._watched[0][-1] is entry:
            self._earlier.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._forget_ended()
            if not self._watched:
                await self._wait_for_news()
            elif self._watched[0][0] <= self._clock.now():
                self._expire(heapq.heappop(self._watched)[-1])
            else:
                await self._sleep_until(self._watched[0][0])

    async def _sleep_until(self, at_s: float) -> None:
        """Return at `at_s`, or when an earlier deadline has come."""
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._clock.sleep_until(at_s))
            news = tasks.create_task(self._wait_for_news())
            timer.add_done_callback(lambda _: news.cancel())
            news.add_done_callback(lambda _: timer.cancel())

    async def _wait_for_news(self) -> None:
        self._earlier.clear()
        await self._earlier.wait()

    def _sweep(self) -> None:
        """Each time it has doubled: what it costs is shared by as many."""
        self._watched = [watched for watched in self._watched if not watched[-1].ended]
        heapq.heapify(self._watched)
        self._sweep_at = max(SWEEP_LEAST, 2 * len(self._watched))

    def _forget_ended(self) -> None:
        while self._watched and self._watched[0][-1].ended:
            heapq.heappop(self._watched)
