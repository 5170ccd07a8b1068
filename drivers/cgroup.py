"""A control group for the engine alone, where the service manager lets us divide ours.

The tree of groups is systemd's, but for what it gives away: with `Delegate=yes` the
part below a service is that service's own (systemd's CGROUP_DELEGATION.md). Where
nothing was given to us, nothing here does anything.

No controller is ever enabled for the parts, so the daemon may stay where it is: the
rule that inner groups hold no processes begins with the first controller.

Standard library only, since the guard loads it (drivers.guard).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def make(name: str, root: Path = Path("/")) -> Path | None:
    """The folder of a group below our own, made if need be; None if none was given to us.

    Raises OSError where it was given and yet cannot be made: another part of the
    service's unit forbids it.
    """
    own = delegated(root)
    if own is None:
        return None
    group = own / name
    group.mkdir(parents=True, exist_ok=True)
    return group


def join(group: Path) -> None:
    """Move this process there; its children will be born there. Raises OSError."""
    (group / "cgroup.procs").write_text("0")  # 0 is the writer itself (cgroups(7))


def delegated(root: Path = Path("/")) -> Path | None:
    """Our own group, if it was given to us to divide.

    It is ours and the one above it is not: at such a border somebody has given it
    away. Other signs are younger than what we run on (the attribute user.delegate:
    systemd 251). Root owns both sides of every border, and so is given nothing.
    """
    own = find_own(root)
    if own is None:
        return None
    ours = own.stat().st_uid == os.geteuid() and own.parent.stat().st_uid != os.geteuid()
    return own if ours else None


def find_own(root: Path = Path("/")) -> Path | None:
    """The folder of the group that we are in, in the one hierarchy of version 2."""
    path = find_path("self", root)
    for mount in (root / "proc/self/mountinfo").read_text(errors="surrogateescape").split("\n"):
        # "… ROOT MOUNTPOINT OPTIONS … - FSTYPE …" (proc_pid_mountinfo(5)). Some are of
        # a part of the tree only, and our part may be mounted more than once.
        before, _, after = mount.partition(" - ")
        if path and after.startswith("cgroup2 "):
            top, at = before.split()[3:5]
            if path.is_relative_to(top):
                own = root / at.lstrip("/") / path.relative_to(top)
                return own if own.is_dir() else None
    return None


def find_path(pid: int | Literal["self"], root: Path = Path("/")) -> Path | None:
    """The group of a process, from the top of the hierarchy of version 2.

    None where there is no such hierarchy. Raises OSError if the process is gone.
    """
    for line in (root / f"proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return Path(line.removeprefix("0::"))
    return None
