"""The guard: a small process between the daemon and an engine's processes.

    daemon ── orders, reports, output ── guard ── engine ── its children

Whatever ends the daemon, the engine ends too, with everything it spawned: the
guard holds a pipe from the daemon, and the end of that pipe is an order to kill.
It is the engine's subreaper, so children that outlive their parent come to it and
are killed and reaped (vLLM leaves such orphans, with the GPU's memory, when its
API server is killed: vLLM issue 55510). And should the guard itself be killed, the
kernel kills the process it started, by PR_SET_PDEATHSIG; what that one leaves is
found through the record (drivers.leftovers).

Run as `python -I -S guard.py DIRECTORY GRACE_S GROUP COMMAND…`, or forked from a warm
host (drivers.vllm_host), whose Python may be 3.10; as a session leader, with

    stdin   orders, one per line: "note" writes down who is alive, "kill" ends
            everything. End of file is "kill"
    stdout  reports, one JSON object per line: "started", "noted", "ended"
    stderr  the output of everything, the guard's own troubles included

SIGTERM, SIGINT and SIGHUP are passed to the engine as SIGTERM, and are "kill" after
GRACE_S. DIRECTORY, which is the engine's alone, is removed at the end. GROUP is the
engine's control group, where there may be one (drivers.cgroup); the guard stays out
of it. Nothing but the standard library, so that it starts in milliseconds; no timer
runs while the engine does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # isolated from every path, this package's included
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drivers import cgroup
from drivers.procfs import (
    boot_id,
    descendants,
    find_stat,
    processes,
    remove_abandoned_shared_memory,
    shared_memory,
)

RECORD = "guard.json"
ORDER_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Guard:
    """One engine's guard, from its fork to the last reaped child.

    `become` makes a child of ours the engine, and does not return unless it cannot.
    `daemon` is the pid of who gives the orders.
    """

    def __init__(
        self,
        directory: Path,
        grace_s: float,
        group: str,
        become: Callable[[], object],
        daemon: int,
    ) -> None:
        self.directory = directory
        self.grace_s = grace_s
        self.group = group
        self.become = become
        self.daemon = daemon
        self.engine = 0
        self.status: int | None = None
        self.kill_at_s: float | None = None
        self.unread = b""
        self.shm_before = shared_memory()

    def run(self) -> None:
        try:
            self.watch()
        finally:
            self.end()

    def watch(self) -> None:
        """Start the engine; return when it has ended or must."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signals, waking = catch_signals()
        self.engine = spawn(self.become, self.group, libc, (signals, waking))
        self.write_record({self.engine})
        # Now, not when a process first ends under our eyes, maybe hours later: what it takes
        # of the C library to say so (docs/decisions/0043-same-pages.md).
        find_stat(0)
        report("started", pid=self.engine)
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(signals, select.POLLIN)
        while self.status is None:
            ready = [fd for fd, _ in poll.poll(self.patience_ms())]
            if signals in ready:
                self.hear_signals(signals)
            if 0 in ready and self.hear_orders():
                return
            if self.kill_at_s is not None and now() >= self.kill_at_s:
                return
            self.reap(os.WNOHANG)

    def hear_orders(self) -> bool:
        """Carry out what has come; True if the end is ordered."""
        read = os.read(0, 4096)
        *orders, self.unread = (self.unread + read).split(b"\n")
        for order in orders:
            if order == b"note":
                self.note()
            elif order == b"kill":
                return True
        return not read

    def hear_signals(self, signals: int) -> None:
        arrived = set(os.read(signals, 512))
        if arrived & ORDER_TO_END and self.kill_at_s is None:
            # The leader only: vLLM's API server drains by telling its children itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.engine, signal.SIGTERM)
            self.kill_at_s = now() + self.grace_s

    def note(self) -> None:
        """Look who is there, so that they can be found without us."""
        pids = descendants([os.getpid()], processes())
        self.write_record(pids)
        report("noted", pids=sorted(pids - {self.engine}))

    def patience_ms(self) -> float | None:
        return None if self.kill_at_s is None else max(0.0, self.kill_at_s - now()) * 1000 + 1

    def reap(self, options: int) -> bool:
        """Collect one dead child, or with WNOHANG all; False if there are no children."""
        while True:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return False
            if pid == self.engine:
                self.status = os.waitstatus_to_exitcode(status)
            if pid == 0 or not options:
                return True

    def end(self) -> None:
        """Kill and reap everything, remove what it left, report."""
        # A child forked before its parent died becomes ours at that death, and each
        # death is followed by a fresh look: nothing escapes between two.
        while True:
            for pid in descendants([os.getpid()], processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not self.reap(0):
                break
        try:
            remove_abandoned_shared_memory(self.shm_before)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
            report("ended", status=self.status)

    def write_record(self, pids: set[int]) -> None:
        """Leave what the next daemon needs to clean up after us both."""
        record = {
            "boot": boot_id(),
            "daemon": named(self.daemon),
            "guard": named(os.getpid()),
            "group": self.engine,
            "members": [named(pid) for pid in sorted(pids)],
            "shm_before": sorted(self.shm_before),
        }
        fresh = self.directory / f"{RECORD}.new"
        with contextlib.suppress(OSError):  # a full disk must not end a healthy engine
            fresh.write_text(json.dumps(record))
            fresh.replace(self.directory / RECORD)


def spawn(
    become: Callable[[], object], group: str, libc: ctypes.CDLL, ours: tuple[int, int]
) -> int:
    """Start the engine in a process group and a control group of its own, bound to our life.

    `ours` are descriptors that it must not have.
    """
    guard = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child may have been quicker
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(137)  # it died between fork and prctl, when nothing told us
        signal.set_wakeup_fd(-1)
        for number in (*ORDER_TO_END, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        for descriptor in (*ours, null):
            os.close(descriptor)
        enter(group)
        become()
    finally:
        os._exit(127)


def execute(command: list[str]) -> None:
    """Become another program; return if that cannot be run."""
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())


def enter(group: str) -> None:
    """Join the control group, if one is wanted and may be had; an engine runs without, too."""
    try:
        if group and (folder := cgroup.make(group)) is not None:
            cgroup.join(folder)
    except OSError as error:
        os.write(2, f"no control group {group}: {error}\n".encode())


def catch_signals() -> tuple[int, int]:
    """Turn signals into bytes; return the descriptors they come out of and go into."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    for number in (*ORDER_TO_END, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return out, into


def report(kind: str, **facts: object) -> None:
    with contextlib.suppress(OSError):  # nobody may be listening any more
        os.write(1, json.dumps({"report": kind, **facts}).encode() + b"\n")


def named(pid: int) -> tuple[int, int]:
    stat = find_stat(pid)
    return pid, stat.start if stat else -1


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    Guard(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        sys.argv[3],
        become=partial(execute, sys.argv[4:]),
        daemon=os.getppid(),
    ).run()
