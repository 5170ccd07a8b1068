"""A control group for each box, in each hierarchy of this host.

Without one of its own, a box would share its groups with whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
LIMITS = [each for each in ("memory", "pids", "devices") if (TOP / each).is_dir()]
"""Controllers of version 1 that a box is to enforce. Where there is only version 2: none."""

# nspawn mounts these read-only, and the init inside would ignore its limits without a
# word. By now we are in a group of our own, so that it writes nowhere else.
INIT = (
    "".join(f"mount -o remount,bind,rw {TOP}/{each} 2>/dev/null; " for each in LIMITS)
    + "exec /sbin/init"
)


def below_ours(name: str) -> list[Path]:
    """Where a group called `name` would be, below our own in each hierarchy."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    tops = {"name=systemd": TOP / "systemd", "": TOP / "unified" if LIMITS else TOP}
    tops |= {each: TOP / each for each in LIMITS}
    return [top / own[each] / name for each, top in tops.items() if each in own]


def remove(groups: Sequence[Path]) -> None:
    """Kill everything in them and remove them. What has just died takes a moment to be gone."""
    for group in groups:
        for _ in range(100):
            for procs in group.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    for pid in procs.read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
            for folder in sorted((*group.rglob("*/"), group), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not group.exists():
                break
            time.sleep(0.02)  # nothing tells when a group has become empty
