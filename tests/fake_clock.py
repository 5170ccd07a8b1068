"""A clock that moves when told to."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count

BOOT = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """`settle` lets everything happen that can before time moves on."""

    def __init__(self, settle: Callable[[], Awaitable[object]] | None = None) -> None:
        self.settle = settle or settled
        self.boot_id = "fake boot"
        self.wall = BOOT
        self.trusted = True
        self._now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = count()

    def now(self) -> float:
        return self._now_s

    def utc(self) -> datetime:
        return self.wall + timedelta(seconds=self._now_s)

    def synced(self) -> bool:
        return self.trusted

    async def sleep_until(self, at_s: float) -> None:
        if at_s > self._now_s:
            due = asyncio.Event()
            heapq.heappush(self._sleepers, (at_s, next(self._order), due))
            await due.wait()

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._now_s + seconds)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking each sleeper at its own time, in order."""
        end_s = self._now_s + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            self._now_s, _, due = heapq.heappop(self._sleepers)
            due.set()
            await self.settle()
        self._now_s = end_s


async def settled(turns: int = 30) -> None:
    """Give every ready task its turn. Enough for chains of about `turns` awaits."""
    for _ in range(turns):
        await asyncio.sleep(0)
