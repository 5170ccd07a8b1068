"""Asks for processes to be taken off the GPU, or put back, and understands the answer.

The work is done by drivers.checkpoint in a process of its own. `Direct` starts that
process as the daemon's own user; a machine whose driver or kernel wants root for it has
the helper (drivers.power_client) instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from drivers.checkpoint import (
    ABSENT,
    GOAL,
    GONE,
    LIMIT_S,
    MACHINE,
    PATIENCE_S,
    UNKNOWN,
    command,
)
from drivers.errors import (
    Died,
    DriverError,
    NotPermitted,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.probe import driver_version

log = logging.getLogger(__name__)

OLDEST_DRIVER = 570
"""The first whose libcuda has the checkpoint functions (CUDA 12.8)."""

# Of CUresult, in cuda.h.
FORBIDDEN, UNABLE = 800, 801
CANNOT_LOOK = ("state", 304)
"""Step and code where the caller may not look into the process (580.159, measured)."""

REPORT = b'"states"'
LEAVE_S = 0.5
"""For a process that was heard out, to end at the end of its input."""

Verb = Literal["park", "unpark"]


class Checkpointer(Protocol):
    """Takes processes off the GPU and puts them back."""

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        """Return when each process is off the GPU (park), or runs again (unpark).

        Raises:
            Refused, NotPermitted, NotSupported: each runs as before the call.
            Died: one of them is gone.
            Unresponsive: they are somewhere between. Stop them.
        """
        ...

    async def forget(self) -> None:
        """Nothing is parked any more: keep nothing for a quick return."""
        ...


class Direct:
    """Runs drivers.checkpoint as this user, which owns the processes.

    env    of that process; it finds libcuda by it. None: our own
    stays  asked once something is parked, in a thread: whether that process may wait for
           the unpark. It has no context, and holds the driver, which must be loaded anyway
    """

    def __init__(
        self,
        *,
        limit_s: float = LIMIT_S,
        env: Mapping[str, str] | None = None,
        stays: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limit_s = limit_s
        self._env = env
        self._stays = stays
        self._mover: _Mover | None = None  # the last one: it waits, or is on its way out

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        if self._mover is None or not self._mover.obeys(verb, pidfds):
            await self.forget()
            self._mover = await _Mover.started(verb, pidfds, self._limit_s, self._env)
        try:
            said, ending = await self._mover.hear(self._limit_s + PATIENCE_S)
            judge(verb, said, ending)
            if verb == "unpark":
                self._mover.dismiss()  # the engine need not wait until it is gone
            elif not await asyncio.to_thread(self._stays):
                await self.forget()
        except BaseException:
            await self.forget()
            raise

    async def forget(self) -> None:
        if self._mover is not None:
            await self._mover.end()
            self._mover = None


class _Mover:
    """A process that runs drivers.checkpoint for some pidfds."""

    def __init__(self, process: asyncio.subprocess.Process, pidfds: Sequence[int]) -> None:
        self._process, self._pidfds = process, list(pidfds)

    @classmethod
    async def started(
        cls, verb: Verb, pidfds: Sequence[int], limit_s: float, env: Mapping[str, str] | None
    ) -> Self:
        try:
            process = await asyncio.create_subprocess_exec(
                *command(verb, pidfds, limit_s),
                pass_fds=pidfds,
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Refused("checkpoint", f"cannot start a process: {error.strerror}") from error
        return cls(process, pidfds)

    def obeys(self, verb: Verb, pidfds: Sequence[int]) -> bool:
        """Give it a further verb; False if it is not the one for that, or is going."""
        assert self._process.stdin is not None
        going = self._process.returncode is not None or self._process.stdin.is_closing()
        if going or list(pidfds) != self._pidfds:
            return False
        self._process.stdin.write(verb.encode() + b"\n")
        return True

    async def hear(self, within_s: float) -> tuple[bytes, tuple[int | None, str]]:
        """What it puts out until it has reported; and how it ended, if it did first."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        said = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while line := await self._process.stdout.readline():
                    said += line
                    if REPORT in line:
                        return said, (0, "")
                complaint = await self._process.stderr.read()
                status = await self._process.wait()
                return said, (status, complaint.decode(errors="replace"))
        return said, (None, "")

    def dismiss(self) -> None:
        """It ends at the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def end(self) -> None:
        """Whatever it does: it has ended, or is beyond help."""
        self.dismiss()
        for kill in (False, True):
            if kill and self._process.returncode is None:
                self._process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S if kill else LEAVE_S):
                    await self._process.wait()


def judge(verb: Verb, said: bytes, ending: tuple[int | None, str] = (0, "")) -> None:
    """Return if `said`, what drivers.checkpoint has put out, tells of success; else raise."""
    *_, last = [{}, *map(json.loads, said.splitlines())]
    if "states" not in last:
        status, complaint = ending
        where = f" in {last['doing']}" if "doing" in last else ""
        why = complaint.strip().rpartition("\n")[2] or f"status {status}"
        raise Unresponsive("checkpoint", f"{verb} ended without a report{where}: {why}")
    if any(state != GOAL[verb] for state in last["states"]):
        raise _failure(verb, last)
    log.debug("%s took, in seconds: %s", verb, last["took_s"])


def _failure(verb: Verb, report: Mapping[str, Any]) -> DriverError:
    states, error = report["states"], report["error"] or {}
    code = error.get("code", 0)
    why = f"{error['step']}: {error['word']}" if error else "not done"
    told = f"{verb}: {why}; now {', '.join(states)}"
    if GONE in states:
        return Died("checkpoint", -9, told)
    unchanged = all(state == "running" for state in states) or (
        # Nothing was begun, and whoever may not begin it may not look either.
        not report["touched"] and all(state == UNKNOWN for state in states)
    )
    if verb == "unpark" or not unchanged:
        return Unresponsive("checkpoint", told)
    if code in {ABSENT, UNABLE}:
        return NotSupported("checkpoint", told)
    if code == FORBIDDEN or (error.get("step"), code) == CANNOT_LOOK:
        return NotPermitted("checkpoint", f"{told}; needs root: wattnap-power")
    return Refused("checkpoint", told)


def why_not(root: Path = Path("/"), machine: str = platform.machine()) -> str:
    """Why no process can be taken off the GPU on this machine; "" if it may work.

    Unified memory needs no word of its own: every NVIDIA machine that has it is an Arm.
    """
    if machine != MACHINE:
        return f"CUDA checkpoints need {MACHINE}, this is {machine}"
    version = driver_version(root)
    if not version:
        return "no NVIDIA driver is loaded"
    if int(version.split(".")[0]) < OLDEST_DRIVER:
        return f"needs driver {OLDEST_DRIVER}, this is {version}"
    return ""
