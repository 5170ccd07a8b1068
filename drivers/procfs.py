"""What /proc says about processes: who is whose child, and what they have mapped.

Standard library only, since the guard loads it (drivers.guard).
"""

from __future__ import annotations

import contextlib
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


def shared_memory(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Path and inode of the shared memory files that these processes have mapped.

    Only of the kinds that an engine makes, and only while they have a name.
    """
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError), (PROC / str(pid) / "maps").open() as maps:
            # The last of six fields is the path, the inode is before it
            # (proc_pid_maps(5)). The path may be an earlier one, since gone:
            # sem_open() makes a semaphore under one name and links it to another.
            inodes |= {int(line.split(maxsplit=5)[4]) for line in maps if str(SHM) in line}
    files = ((path, find_inode(path)) for path in SHM.iterdir()) if inodes else ()
    return {
        (str(path), inode)
        for path, inode in files
        if inode in inodes and path.name.startswith(SHM_PREFIXES)
    }


def remove_shared_memory(files: Iterable[tuple[str, int]]) -> None:
    """Unlink those of the files that are still the same ones."""
    for path, inode in files:
        if find_inode(Path(path)) == inode:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def find_inode(path: Path) -> int:
    """The file's inode; 0, which no file has, if it is not there."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
