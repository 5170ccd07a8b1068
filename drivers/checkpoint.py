"""Take processes off the GPU and put them back: CUDA checkpoint and restore.

Run as `python -I -S checkpoint.py VERB LIMIT_S PIDFD…`, a process of its own: the
daemon never opens CUDA, and what hangs or crashes inside the driver does so here.

    state   say what state each process is in
    park    lock each (its CUDA calls wait from then on), then checkpoint each: its
            GPU memory goes to host memory, and it lets go of the GPU
    unpark  restore and unlock what is checkpointed, unlock what is only locked

A line on stdin is a further verb for the same processes; at its end, so ends this. Whoever
keeps this process between park and unpark saves the 0.15 s that it takes to start (H200).

A process is named by an inherited pidfd, so that it cannot be mistaken for a later one
with its pid. Both ways start from whatever state each process is in, so a half-done one
is finished by the other. If park fails, everything is brought back. A restore is tried
once: after one that ran out of memory the driver (580.95) refuses all others, and only
killing the process helps (NVIDIA/cuda-checkpoint issue 44).

On stdout a line {"doing": …} before each step, and last the report:

    states   of each process, by CUDA's words, or "gone" or "unknown"
    error    what failed first: step, CUresult, its name; null if nothing did
    touched  whether any step was begun; if not, all is as it was
    took_s   seconds by step, "init" included

After LIMIT_S seconds with one verb SIGALRM ends it without a report, in mid-call if need
be: then nobody knows the state.

Standard library only, Python 3.10 or newer; x86-64 only, as is the driver's part of it.
Layouts and numbers are those of cuda.h 12.8 to 13.2.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

LIBRARY = "libcuda.so.1"
MACHINE = "x86_64"
STATES = ("running", "locked", "checkpointed", "failed", "checkpointing", "restoring")
GONE, UNKNOWN = "gone", "unknown"  # not CUDA's: it has exited; the driver would not say

Way = tuple[tuple[str, str], ...]  # (state before, step), in order
PARK: Way = (("running", "lock"), ("locked", "checkpoint"))
UNPARK: Way = (("checkpointed", "restore"), ("locked", "unlock"))
GOAL = {"park": "checkpointed", "unpark": "running"}

LOCK_TIMEOUT_S = 10.0
"""For calls under way to end. An engine that sleeps has none."""
LIMIT_S = 60.0
"""For one park or unpark. 60 GB of GPU memory took 9.5 s to come back (H200)."""
PATIENCE_S = 5.0
"""For a process past its limit to go: it may be inside the kernel."""
ABSENT = -1  # where a CUresult would be: this machine has no such library or function


class LockArgs(ctypes.Structure):
    """CUcheckpointLockArgs; the other steps' arguments are optional and left out."""

    _fields_ = (
        ("timeout_ms", ctypes.c_uint),
        ("reserved0", ctypes.c_uint),
        ("reserved1", ctypes.c_uint64 * 7),
    )


class StepFailed(Exception):
    """The driver, or the system, said no to one step."""

    def __init__(self, step: str, code: int, word: str) -> None:
        super().__init__(f"{step}: {word}")
        self.step, self.code, self.word = step, code, word


class Cuda:
    """The few entry points of libcuda, for other processes than this one.

    Raises StepFailed, also where there is no library or it lacks one of them.
    """

    def __init__(self) -> None:
        if os.uname().machine != MACHINE:
            raise StepFailed("init", ABSENT, f"needs {MACHINE}, this is {os.uname().machine}")
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise StepFailed("init", ABSENT, str(error)) from error
        self._steps = {
            step: self._function(f"cuCheckpointProcess{step.capitalize()}")
            for step in ("lock", "checkpoint", "restore", "unlock")
        }
        self._get_state = self._function("cuCheckpointProcessGetState")
        # Restoring needs it, or persistence mode; it makes no context.
        self._check("init", self._function("cuInit")(0))

    def state(self, pid: int) -> str:
        state = ctypes.c_int()
        self._check("state", self._get_state(pid, ctypes.byref(state)))
        return STATES[state.value] if state.value < len(STATES) else UNKNOWN

    def do(self, step: str, pid: int) -> None:
        arguments = LockArgs(timeout_ms=int(LOCK_TIMEOUT_S * 1000)) if step == "lock" else None
        pointer = ctypes.byref(arguments) if arguments is not None else None
        self._check(step, self._steps[step](pid, pointer))

    def _function(self, name: str) -> Any:  # ctypes makes them up
        try:
            return getattr(self._library, name)
        except AttributeError as error:
            raise StepFailed("init", ABSENT, f"{LIBRARY} has no {name}") from error

    def _check(self, step: str, code: int) -> None:
        if code:
            name = ctypes.c_char_p()
            with suppress(AttributeError):
                self._library.cuGetErrorName(code, ctypes.byref(name))
            raise StepFailed(step, code, (name.value or b"CUDA error %d" % code).decode())


class Parking:
    """One verb after another: the processes, how long each step took, what failed first."""

    def __init__(self, pidfds: Sequence[int]) -> None:
        self.pidfds = pidfds
        self.took_s: dict[str, float] = {}
        self.touched = False
        self.error: StepFailed | None = None
        self._cuda: Cuda | None = None

    def run(self, verb: str) -> None:
        """Never raises StepFailed: it is in `error`."""
        self.took_s, self.touched, self.error = {}, False, None
        try:
            if self._cuda is None:
                with self._timed("init"):
                    self._cuda = Cuda()
            if verb != "state":
                self._go(self._cuda, PARK if verb == "park" else UNPARK, self.pidfds)
        except StepFailed as failed:
            self.error = failed
            if verb == "park" and self._cuda and self.touched:
                self._go_back(self._cuda)

    def states(self) -> list[str]:
        return [self._state(pidfd) for pidfd in self.pidfds]

    def _go(self, cuda: Cuda, way: Way, pidfds: Sequence[int]) -> None:
        # All are locked before the first is checkpointed: one that waits for another
        # that is parked would never come to rest (NVIDIA/cuda-checkpoint issue 30).
        for before, step in way:
            for pidfd in pidfds:
                pid = pid_of(pidfd)
                if cuda.state(pid) == before:
                    self.touched = True
                    with self._timed(step):
                        cuda.do(step, pid)

    def _go_back(self, cuda: Cuda) -> None:
        for pidfd in self.pidfds:
            with suppress(StepFailed):  # the states will tell
                self._go(cuda, UNPARK, [pidfd])

    def _state(self, pidfd: int) -> str:
        try:
            pid = pid_of(pidfd)
            return self._cuda.state(pid) if self._cuda else UNKNOWN
        except StepFailed as failed:
            return GONE if failed.word == GONE else UNKNOWN

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        say(doing=step)
        began_s = now()
        try:
            yield
        finally:
            self.took_s[step] = round(self.took_s.get(step, 0.0) + now() - began_s, 4)


def pid_of(pidfd: int) -> int:
    """The pid of the process that `pidfd` names, which lives. Raises StepFailed."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)  # readable once it has ended (pidfd_open(2))
    if not poll.poll(0):
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as info:  # noqa: PTH123
            for line in info:
                name, _, value = line.partition(b":")
                if name == b"Pid" and int(value) > 0:
                    return int(value)
    raise StepFailed("find", 0, GONE)


def command(verb: str, pidfds: Sequence[int], limit_s: float) -> list[str]:
    """How to run this, by whoever passes on the pidfds."""
    program = [sys.executable, "-I", "-S", __file__]
    return [*program, verb, str(limit_s), *map(str, pidfds)]


def say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main(verb: str, limit_s: str, *pidfds: str) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    parking = Parking([int(pidfd) for pidfd in pidfds])
    while verb:
        signal.setitimer(signal.ITIMER_REAL, float(limit_s))
        parking.run(verb)
        error = parking.error
        say(
            states=parking.states(),
            error=error and {"step": error.step, "code": error.code, "word": error.word},
            touched=parking.touched,
            took_s=parking.took_s,
        )
        signal.setitimer(signal.ITIMER_REAL, 0)
        verb = sys.stdin.readline().strip()
    signal.setitimer(signal.ITIMER_REAL, float(limit_s))  # libcuda has its own way to end
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
