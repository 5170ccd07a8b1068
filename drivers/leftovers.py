"""Clean up after a guard that died without doing so.

When a daemon and its guard are killed together, the engine's children live on
with nobody above them. The guard's record in the engine's directory says who they
were; `sweep` ends them before the next start.

A process is ended only if it is surely one of them: it has a recorded pid and
start time, or descends from one that has, or is in the guard's session or the
engine's group, younger than the guard, and works in the engine's directory. A
recycled pid is none of these.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from drivers.guard import RECORD
from drivers.procfs import (
    PROC,
    Stat,
    boot_id,
    descendants,
    find_stat,
    processes,
    remove_abandoned_shared_memory,
)

Record = dict[str, Any]  # as drivers.guard wrote it


class InUse(Exception):
    """The directory belongs to an engine whose daemon is alive."""

    def __init__(self, directory: Path, daemon: int) -> None:
        super().__init__(f"{directory} is in use by process {daemon}")
        self.daemon = daemon


def sweep(directory: Path, *, within_s: float = 10.0) -> list[int]:
    """End what an earlier engine left in and around `directory`, and remove it.

    Returns the pids that would not end in time; then the directory is kept, for
    the next sweep. Blocks: call it in a thread.

    Raises InUse if that engine still has its daemon; nothing was touched.
    """
    record = find_record(directory)
    if record is None:
        shutil.rmtree(directory, ignore_errors=True)
        return []
    refuse_if_in_use(directory, record)
    deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + within_s
    while found := survivors(directory, record, processes()):
        left_s = deadline_s - time.clock_gettime(time.CLOCK_BOOTTIME)
        if left_s <= 0:
            return sorted(found)
        kill(found, left_s)
    remove_abandoned_shared_memory({(path, inode) for path, inode in record["shm_before"]})
    shutil.rmtree(directory, ignore_errors=True)
    return []


def find_record(directory: Path) -> Record | None:
    """What a guard of this boot wrote, or None."""
    try:
        record: Record = json.loads((directory / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if record["boot"] == boot_id() else None


def refuse_if_in_use(directory: Path, record: Record) -> None:
    """Raise InUse if both the guard and the daemon above it live."""
    alive = processes()
    daemon, guard = record["daemon"], record["guard"]
    if is_alive(daemon, alive) and is_alive(guard, alive):
        raise InUse(directory, daemon[0])


def survivors(directory: Path, record: Record, alive: dict[int, Stat]) -> dict[int, Stat]:
    """What is left of that engine, its guard included."""
    session, guard_start = record["guard"]
    named = [record["guard"], *record["members"]]
    found = {pid for pid, start in named if is_alive([pid, start], alive)}
    for pid, stat in alive.items():
        related = stat.session == session or stat.group == record["group"]
        if related and stat.start >= guard_start and works_in(directory, pid):
            found.add(pid)
    found |= descendants(found, alive)
    # Zombies have ended: they only wait for their parents to notice.
    return {pid: alive[pid] for pid in found if alive[pid].state != "Z"}


def is_alive(named: list[int], alive: dict[int, Stat]) -> bool:
    pid, start = named
    return pid in alive and alive[pid].start == start and alive[pid].state != "Z"


def works_in(directory: Path, pid: int) -> bool:
    with contextlib.suppress(OSError):
        cwd = (PROC / str(pid) / "cwd").readlink()
        # A removed directory reads "… (deleted)".
        return Path(str(cwd).removesuffix(" (deleted)")).is_relative_to(directory)
    return False


def kill(condemned: dict[int, Stat], within_s: float) -> None:
    """Kill them all, and wait until they have ended or the time is over."""
    deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + within_s
    with contextlib.ExitStack() as stack:
        waited = []
        for pid, stat in condemned.items():
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                # Only now is the pid held: it may have been recycled since we looked.
                if (now := find_stat(pid)) is not None and now.start == stat.start:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    waited.append(fd)
        for fd in waited:
            poll = select.poll()
            poll.register(fd, select.POLLIN)  # readable once it has ended (pidfd_open(2))
            poll.poll(max(0.0, deadline_s - time.clock_gettime(time.CLOCK_BOOTTIME)) * 1000)
