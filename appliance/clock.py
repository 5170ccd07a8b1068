"""Time, as the appliance sees it. The only module that asks the system for it."""

from __future__ import annotations

import ctypes
import heapq
import math
import os
import time
import weakref
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


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
        self._alarms: _Alarms | None = None
        self._synced, self._asked_s = False, -math.inf

    def now(self) -> float:
        # CLOCK_MONOTONIC stops while the box is suspended; idle time must not.
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def synced(self) -> bool:
        # Asked of the kernel once a second at most: a burst of requests would feel it.
        if (now_s := self.now()) >= self._asked_s + 1:
            state: int = _libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
            self._synced, self._asked_s = state not in {-1, _TIME_ERROR}, now_s
        return self._synced

    async def sleep_until(self, at_s: float) -> None:
        if at_s <= self.now():
            return
        if self._alarms is None:
            self._alarms = _Alarms(self)
        await self._alarms.wait_until(at_s)


class _Alarms:
    """One timerfd on CLOCK_BOOTTIME for everybody who sleeps, in one event loop.

    asyncio's own timers stand still in suspend; this one is due at once after the
    resume. Most sleeps end early, because a request comes: their alarms are left
    set, and the timer then rings for nobody, rather than be set twice a request.
    """

    def __init__(self, clock: Clock) -> None:
        import asyncio  # not for those who only ask for the time

        self._clock = clock
        self._timer = _timer()
        weakref.finalize(self, os.close, self._timer)
        self._rings_s = math.inf
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._timer, self._ring)

    async def wait_until(self, at_s: float) -> None:
        """Return once the clock shows `at_s`."""
        if len(self._due) > 2 * self._waiting + 64:
            self._due = [alarm for alarm in self._due if not alarm[2].done()]
            heapq.heapify(self._due)
        rung = self._loop.create_future()
        heapq.heappush(self._due, (at_s, next(self._order), rung))
        if at_s < self._rings_s:
            self._set(at_s)
        self._waiting += 1
        try:
            await rung
        finally:
            self._waiting -= 1

    def _ring(self) -> None:
        os.read(self._timer, 8)  # how often it has rung
        now_s = self._clock.now()
        while self._due and (self._due[0][0] <= now_s or self._due[0][2].done()):
            rung = heapq.heappop(self._due)[2]
            if not rung.done():
                rung.set_result(None)
        self._rings_s = math.inf
        if self._due:
            self._set(self._due[0][0])

    def _set(self, at_s: float) -> None:
        _set_timer(self._timer, at_s)
        self._rings_s = at_s


def iso(at: datetime) -> str:
    """An instant as it is stored and shown: ISO 8601, UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hour_of(at: datetime) -> str:
    """Where the full hour of local time that `at` lies in began. In UTC, as it is stored."""
    local = at.astimezone()
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return iso(at - into)


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


def _timer() -> int:
    """A timerfd on CLOCK_BOOTTIME (timerfd_create(2)).

    By hand: os.timerfd_create exists only from Python 3.13 on.
    """
    fd: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return fd


def _set_timer(fd: int, at_s: float) -> None:
    """Make it readable once CLOCK_BOOTTIME reaches `at_s`."""
    seconds, part = divmod(at_s, 1.0)
    # Never 0 and 0: that would disarm it.
    when = _Itimerspec(0, 0, int(seconds), max(1, int(part * 1e9)))
    if _libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, ctypes.byref(when), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
