"""Asks for processes to be taken off the GPU, or put back, and understands the answer.

The work is done by drivers.checkpoint in a process of its own. `Direct` starts that
process as the daemon's own user; a machine whose driver or kernel wants root for it has
the helper (drivers.power_client) instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

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

OLDEST_DRIVER = 570
"""The first whose libcuda has the checkpoint functions (CUDA 12.8)."""

# Of CUresult, in cuda.h.
FORBIDDEN, UNABLE = 800, 801
CANNOT_LOOK = ("state", 304)
"""Step and code where the caller may not look into the process (580.159, measured)."""

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


class Direct:
    """Runs drivers.checkpoint as this user, which owns the processes.

    env  of that process; it finds libcuda by it. None: our own
    """

    def __init__(self, *, limit_s: float = LIMIT_S, env: Mapping[str, str] | None = None) -> None:
        self._limit_s = limit_s
        self._env = env

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *command(verb, pidfds, self._limit_s),
                pass_fds=pidfds,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Refused("checkpoint", f"cannot start a process: {error.strerror}") from error
        said, complaint = b"", b""
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(self._limit_s + PATIENCE_S):
                    said, complaint = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()  # cancelled, or beyond help
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PATIENCE_S):
                            await process.wait()
        judge(verb, said, (process.returncode, complaint.decode(errors="replace")))


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
