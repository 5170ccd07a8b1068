"""Time, as the appliance sees it. The only module that asks the system for it."""

from __future__ import annotations

import asyncio
import ctypes
import os
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

    def synced(self) -> bool:
        """Whether the kernel believes that wall time is right."""
        ...

    async def sleep_until(self, at_s: float) -> None:
        """Return once now() >= at_s, suspend included."""
        ...


class SystemClock:
    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> float:
        # CLOCK_MONOTONIC stops while the box is suspended; idle time must not.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def synced(self) -> bool:
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)
        state: int = _libc.adjtimex(timex)
        return state not in {-1, _TIME_ERROR}

    async def sleep_until(self, at_s: float) -> None:
        # asyncio's own timers stand still in suspend; a timerfd on CLOCK_BOOTTIME
        # is due at once after the resume.
        if at_s <= self.now():
            return
        loop, due = asyncio.get_running_loop(), asyncio.Event()
        timer = _timer(at_s)
        try:
            loop.add_reader(timer, due.set)
            await due.wait()
        finally:
            loop.remove_reader(timer)
            os.close(timer)


def iso(at: datetime) -> str:
    """An instant as it is stored and shown: ISO 8601, UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(earlier: str, later: str) -> float:
    """Wall time from one stored instant to another. Only if both were synced."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


_libc = ctypes.CDLL(None, use_errno=True)
_TIMEX_BYTES = 512  # struct timex has 208 (adjtimex(2)); more does no harm
_TIME_ERROR = 5  # clock not synchronised (adjtimex(2))
_TFD_TIMER_ABSTIME = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def _timer(at_s: float) -> int:
    """A timerfd that is readable once CLOCK_BOOTTIME reaches `at_s` (timerfd_create(2)).

    By hand: os.timerfd_create exists only from Python 3.13 on.
    """
    fd: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    seconds, part = divmod(at_s, 1.0)
    # Never 0 and 0: that would disarm it.
    when = _Itimerspec(0, 0, int(seconds), max(1, int(part * 1e9)))
    if _libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, ctypes.byref(when), None) < 0:
        os.close(fd)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return fd
