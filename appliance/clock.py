"""Time, as the appliance sees it. The only module that asks the system for it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    boot_id: str
    """Of this boot: instants of now() can be subtracted only within one boot."""

    def now(self) -> float:
        """Seconds since boot, suspend included. For durations; stored only with `boot_id`."""
        ...

    def utc(self) -> datetime:
        """Wall time. For records; never subtracted. It may jump when NTP arrives."""
        ...

    async def sleep_until(self, at_s: float) -> None:
        """Return once now() >= at_s."""
        ...


class SystemClock:
    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> float:
        # CLOCK_MONOTONIC stops while the box is suspended; idle time must not.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    async def sleep_until(self, at_s: float) -> None:
        while (left_s := at_s - self.now()) > 0:
            await asyncio.sleep(left_s)


def iso(at: datetime) -> str:
    """An instant as it is stored and shown: ISO 8601, UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
