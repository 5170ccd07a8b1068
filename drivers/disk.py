"""How fast a disk commits: what every accepted request waits for."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAGE_BYTES = 4096


def fsync_s(folder: Path, count: int = 200, limit_s: float = 60.0) -> list[float]:
    """Seconds of each append of one page with fsync, sorted: at least one, at most `count`.

    Begins none after `limit_s`. Leaves nothing in `folder`. Raises OSError.
    """
    path = folder / f".fsync-probe-{os.getpid()}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        seconds: list[float] = []
        while not seconds or (len(seconds) < count and sum(seconds) < limit_s):
            began_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            os.write(fd, b"x" * PAGE_BYTES)
            os.fsync(fd)
            seconds.append(time.clock_gettime(time.CLOCK_BOOTTIME) - began_s)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(seconds)
