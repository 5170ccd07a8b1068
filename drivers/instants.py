"""The kernel's clocks, for drivers: of readings, and of the time that the box slept."""

from __future__ import annotations

import time


def boottime_s() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def suspended_s() -> float:
    """Seconds since boot that the box has spent suspended: CLOCK_MONOTONIC stands still then.

    The two clocks are read one after the other: the answer is off by microseconds, and by
    more if the process is preempted between them.
    """
    return boottime_s() - time.clock_gettime(time.CLOCK_MONOTONIC)
