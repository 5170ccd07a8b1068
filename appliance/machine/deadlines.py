"""One timer, for the earliest deadline of all that wait or run."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from itertools import count

from appliance.clock import Clock
from appliance.machine.roster import Entry
from appliance.timers import sleep_until_or

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
            due_s = self._watched[0][0] if self._watched else math.inf
            if due_s <= self._clock.now():
                self._expire(heapq.heappop(self._watched)[-1])
            else:
                self._earlier.clear()
                await sleep_until_or(self._clock, due_s, self._earlier)

    def _sweep(self) -> None:
        """Each time it has doubled: what it costs is shared by as many."""
        self._watched = [watched for watched in self._watched if not watched[-1].ended]
        heapq.heapify(self._watched)
        self._sweep_at = max(SWEEP_LEAST, 2 * len(self._watched))

    def _forget_ended(self) -> None:
        while self._watched and self._watched[0][-1].ended:
            heapq.heappop(self._watched)
