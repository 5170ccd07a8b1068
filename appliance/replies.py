"""The live side of an answer: a bounded stream for a caller that waits.

Gone on restart, as the inbox is not.
"""

from __future__ import annotations

import asyncio
from collections import deque

from appliance.errors import ApplianceError
from appliance.notices import Part, Progress, Verbatim

Event = Progress | Part | Verbatim | bytes | ApplianceError

PARTS_AHEAD = 256
"""Parts that a slow reader may lag behind before the engine is made to wait."""


class LiveReply:
    """What one caller will see, in order: progress, parts, then the answer or the error."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def put(self, event: Event) -> None:
        """Never waits. Before a part, see that there is room: of those there may be many."""
        self._waiting.append(event)
        self._news.set()

    def has_room(self) -> bool:
        """The reader is no further behind than `PARTS_AHEAD`."""
        return len(self._waiting) < PARTS_AHEAD

    async def room(self) -> None:
        """Return once there is."""
        while not self.has_room():
            self._room.clear()
            await self._room.wait()

    async def get(self) -> Event:
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._waiting.popleft()
