"""How a vLLM that sleeps is taken off the GPU and put back: its processes, checkpointed.

Only those with a CUDA context are: EngineCore, and its workers if it has any. The API
server has none, and goes on answering /health.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from drivers.checkpoint import LIMIT_S, PATIENCE_S
from drivers.checkpointer import Checkpointer, why_not
from drivers.errors import Died, DriverError, Refused, Unresponsive
from drivers.process import Child
from drivers.tenants import Look, Tenants
from drivers.vllm_core import is_core

log = logging.getLogger(__name__)

VACATE_S = 5.0
"""Until the GPU shows that they have left; NVML's list may lag behind."""
TIMEOUT_S = LIMIT_S + PATIENCE_S + VACATE_S + 20.0
"""For all of it, whoever hangs: the driver's own limit, and looks at the GPU and at the guard."""


def why_not_park(device: str, sleep_level: int, checkpointer: Checkpointer | None) -> str:
    """Why an engine cannot be parked; "" if it may."""
    if device == "cpu":
        return "there is no GPU to leave"
    if sleep_level == 0:
        return "it cannot sleep first"
    return "" if checkpointer is not None else why_not() or "nothing was given that could do it"


class Park:
    """One engine's parking, from its start to its end."""

    def __init__(self, name: str, checkpointer: Checkpointer, tenants: Tenants) -> None:
        self._name = name
        self._checkpointer = checkpointer
        self._tenants = tenants
        self._pidfds: dict[int, int] = {}  # by pid, of what is parked

    async def park(self, child: Child) -> None:
        """Take it off the GPU, and see that it has left.

        Raises as Engine.park; NotPermitted and NotSupported: never here, it is as before.
        """
        if self._pidfds:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._pidfds = await self._take_off(child)
        except TimeoutError as error:
            raise Unresponsive(self._name, f"not parked within {TIMEOUT_S:.0f} s") from error

    async def _take_off(self, child: Child) -> dict[int, int]:
        """Return pidfds, by pid, of what was taken off."""
        before = await self._look()
        pidfds = await self._find(child, before)
        try:
            await self._checkpointer.move("park", list(pidfds.values()))
            if before is not None and (ours := pidfds.keys() & before.bytes_by_pid.keys()):
                await self._see_it_gone(ours)
            else:  # how much memory is in use would tell of everybody
                log.debug("%s: parked, by the driver's word: NVML has not listed it", self._name)
        except BaseException:
            close(pidfds)
            raise
        return pidfds

    async def unpark(self) -> None:
        """Put back what is parked; else nothing. Raises as Engine.wake."""
        if self._pidfds:
            await self._checkpointer.move("unpark", list(self._pidfds.values()))
            self._let_go()

    async def forget(self) -> None:
        """It has ended."""
        self._let_go()
        await self._checkpointer.forget()

    def _let_go(self) -> None:
        close(self._pidfds)
        self._pidfds = {}

    async def _look(self) -> Look | None:
        """At the GPU; None if nobody can tell."""
        try:
            return await asyncio.to_thread(self._tenants.look)
        except DriverError:
            return None

    async def _find(self, child: Child, look: Look | None) -> dict[int, int]:
        """Pidfds, by pid, of its processes that have a context."""
        pids = await self._members(child)
        listed = pids & set(look.bytes_by_pid) if look else set()
        # NVML's numbers may be another pid namespace's, and NVML may be missing.
        chosen = listed or set(filter(is_core, pids))
        if not chosen:
            raise Refused(self._name, "none of its processes is on the GPU")
        pidfds: dict[int, int] = {}
        try:
            for pid in sorted(chosen):
                pidfds[pid] = os.pidfd_open(pid)
            # Only now are they held. Whoever is still the engine's is who we meant.
            if not pidfds.keys() <= await self._members(child):
                raise Died(self._name, -9, "a process ended before it could be parked")
        except OSError as error:
            close(pidfds)
            raise Refused(self._name, f"cannot hold its processes: {error.strerror}") from error
        except BaseException:
            close(pidfds)
            raise
        return pidfds

    async def _members(self, child: Child) -> set[int]:
        if not child.ended:
            await child.note()
        if child.ended:
            raise Died(self._name, child.status or 0)
        return {child.pid, *child.others}

    async def _see_it_gone(self, ours: set[int]) -> None:
        """Return when the GPU lists none of these pids any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VACATE_S):
                while (after := await self._look()) is not None:
                    if not ours & after.bytes_by_pid.keys():
                        return
                    await asyncio.sleep(0.1)
        raise Unresponsive(self._name, f"checkpointed, but the GPU does not show that {ours} left")


def close(pidfds: dict[int, int]) -> None:
    for pidfd in pidfds.values():
        os.close(pidfd)
