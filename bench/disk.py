"""How fast this disk commits: the yardstick for everything durable.

A machine's disk may commit faster than any box's at home. `slower` makes one of
it whose fsync takes longer, for a benchmark's both sides: an SSD's 2 ms, say.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from drivers.disk import fsync_s

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#define SLOWER(name) int name(int fd) { \\
    struct timespec more = {0, MORE_NS}; \\
    int result = ((int (*)(int))dlsym(RTLD_NEXT, #name))(fd); \\
    nanosleep(&more, 0); \\
    return result; }
SLOWER(fsync)
SLOWER(fdatasync)
"""


def slower(folder: Path, more_s: float) -> None:
    """From here on, fsync and fdatasync take `more_s` longer in the processes that are started.

    Needs gcc. 0: nothing is changed.
    """
    if more_s == 0:
        return
    shim = folder / "slower_fsync.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-DMORE_NS={more_s * 1e9:.0f}", "-xc", "-", "-o", str(shim)],
        input=SHIM.encode(),
        check=True,
    )
    os.environ["LD_PRELOAD"] = str(shim)


def probed(folder: Path) -> list[float]:
    """`fsync_s`, in a process of its own: on the disk that the daemon sees."""
    command = [sys.executable, "-m", "bench.disk", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return [float(line) for line in done.stdout.split()]


def summary(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the rate, as they are reported."""
    ordered = sorted(seconds)
    return {
        "p50_s": round(statistics.median(ordered), 6),
        "p99_s": round(ordered[int(len(ordered) * 0.99)], 6),
        "per_s": round(len(ordered) / sum(ordered), 1),
    }


if __name__ == "__main__":
    print(*fsync_s(Path(sys.argv[1])), sep="\n")
