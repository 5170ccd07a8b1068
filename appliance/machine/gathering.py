"""Has requests that come close together go to the engine together: one batch is cheaper."""

from __future__ import annotations

import asyncio

from appliance.clock import Clock


class Gathering:
    """window_s  nobody is kept longer than that; 0: nobody is kept at all"""

    def __init__(self, window_s: float, clock: Clock) -> None:
        self._window_s, self._clock = window_s, clock
        self._together: asyncio.Event | None = None

    async def join(self) -> None:
        """Return at once with all who come within the window that the first of them opens."""
        if self._together is not None:
            await self._together.wait()
        elif self._window_s:
            together = self._together = asyncio.Event()
            try:
                await self._clock.sleep_until(self._clock.now() + self._window_s)
            finally:
                self._together = None
                together.set()
