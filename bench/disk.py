"""How fast this disk commits: the yardstick for everything durable."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

PAGE_BYTES = 4096


def fsync_s(folder: Path, count: int = 200) -> list[float]:
    """Seconds of each of `count` appends of one page with fsync, sorted."""
    path = folder / "fsync-probe"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        seconds = []
        for _ in range(count):
            began = time.monotonic()
            os.write(fd, b"x" * PAGE_BYTES)
            os.fsync(fd)
            seconds.append(time.monotonic() - began)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(seconds)


def summary(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the rate, as they are reported."""
    ordered = sorted(seconds)
    return {
        "p50_s": round(statistics.median(ordered), 6),
        "p99_s": round(ordered[int(len(ordered) * 0.99)], 6),
        "per_s": round(len(ordered) / sum(ordered), 1),
    }
