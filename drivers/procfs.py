"""What /proc says about processes: who is whose child, and whose shared memory is in use.

Standard library only, since the guard loads it (drivers.guard).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
SHM = Path("/dev/shm")  # noqa: S108 - where the kernel shows them, not a choice of ours
SHM_PREFIXES = ("psm_", "sem.mp-", "torch_")  # of multiprocessing and torch


class Stat(NamedTuple):
    """One line of /proc/PID/stat (proc_pid_stat(5)); `start` is in ticks since boot.

    A pid and its start together name a process for the whole of one boot.
    """

    state: str
    parent: int
    group: int
    session: int
    start: int


def find_stat(pid: int) -> Stat | None:
    """The process as it is now, or None if it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    parent, group, session = map(int, fields[1:4])
    return Stat(fields[0].decode(), parent, group, session, int(fields[19]))


def processes() -> dict[int, Stat]:
    """Everything that runs on this machine, zombies included, as far as we may see."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    return {pid: stat for pid in pids if (stat := find_stat(pid)) is not None}


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory since boot; 0 if it won't say."""
    with contextlib.suppress(OSError):
        for line in (PROC / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def descendants(roots: Iterable[int], alive: dict[int, Stat]) -> set[int]:
    """All children of `roots`, of any generation."""
    children: dict[int, list[int]] = {}
    for pid, stat in alive.items():
        children.setdefault(stat.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), ()) if pid not in found]
        found.update(below)
        waiting += below
    return found


def shared_memory() -> set[tuple[str, int]]:
    """Path and inode of the shared memory files of this user, of the kinds that an engine makes."""
    return {
        (str(path), status.st_ino)
        for path in SHM.iterdir()
        if path.name.startswith(SHM_PREFIXES)
        and (status := find_status(path)) is not None
        and status.st_uid == os.geteuid()
    }


def remove_abandoned_shared_memory(before: Iterable[tuple[str, int]]) -> None:
    """Unlink what has come into being since `before` and nobody has open or mapped now.

    A killed process cannot say which files were its own. But a file that nobody
    uses is of no use to anybody: its maker keeps it open for as long as it lives.
    """
    if not (since := shared_memory() - set(before)):
        return
    used = inodes_in_use()
    for path, inode in since:
        if inode not in used:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def inodes_in_use() -> set[int]:
    """Inodes of the shared memory files that any process we may look into uses."""
    found = set()
    for pid in processes():
        with contextlib.suppress(OSError):
            # The last of six fields is the path, the inode is before it
            # (proc_pid_maps(5)). The path may be an earlier one, since gone:
            # sem_open() makes a semaphore under one name and links it to another.
            # As bytes: other people's files have any names, UTF-8 or not.
            with (PROC / str(pid) / "maps").open("rb") as maps:
                found |= {int(line.split(maxsplit=5)[4]) for line in maps if bytes(SHM) in line}
            for fd in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(fd.readlink()).startswith(str(SHM)):
                        found.add(fd.stat().st_ino)
    return found


def find_status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
