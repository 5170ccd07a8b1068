"""One warm host kept for one engine: had, asked for servers, replaced, ended.

The host itself is drivers.vllm_host. Where none can be had, or none is to be
trusted, servers are started plainly, and `lacks` says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from drivers import vllm_host
from drivers.errors import (
    Died,
    NotPermitted,
    NotPresent,
    NotSupported,
    OutOfMemory,
    Unresponsive,
)
from drivers.host_process import ForkedGuard, HostProcess, NoHost
from drivers.process import Child
from drivers.protocols import EngineFacts

log = logging.getLogger(__name__)

READY_PATIENCE_S = 300.0
"""For its imports: 8 s on two idle cores, minutes from a memory card."""
FORK_PATIENCE_S = 10.0
"""A fork takes 0.1 s at most; a host that has not answered by then is frozen."""
STRIKES = 2
"""How often forked servers may fail where plain ones do not, before there are no more; and
how often a host may be killed before it is ready."""


class Start(Protocol):
    """A way to start a server: Child.start is the plain one."""

    async def __call__(
        self,
        child: Child,
        command: Sequence[str],
        /,
        *,
        env: Mapping[str, str],
        directory: Path,
        grace_s: float,
        group: str,
    ) -> None: ...


class WarmHost:
    """At most one host process, for one engine.

    python  the engine's own
    device  "cpu", "cuda", or "none": a host that imports nothing, for stand-ins
    model   whose classes are imported too
    """

    def __init__(self, name: str, *, python: Path, device: str, model: str) -> None:
        self.name = f"{name} warm host"
        self.lacks = ""
        """Why the latest server was started plainly, for people; "" if it was forked."""
        self._command = (str(python), vllm_host.__file__)
        self._arguments = (device, model)
        self._process: HostProcess | None = None
        self._like: Hashable = None
        self._unfit: dict[Hashable, str] = {}
        self._doubt = ""
        self._strikes = 0
        self._kills = 0

    async def start(
        self,
        launch: Callable[[Start], Awaitable[EngineFacts]],
        *,
        install: Hashable,
        env: Mapping[str, str],
        within_s: float,
    ) -> EngineFacts:
        """Have `launch` start a server and wait for it: a forked one, or else a plain one.

        A forked one that fails is followed by a plain one: only so does it show whose fault
        it was. At the next start; at once where it said what a person would have to mend.
        """
        doubt, self._doubt = self._doubt, ""
        if not doubt:
            try:
                await self._prepare(install, env, within_s=within_s)
                facts = await launch(self._fork)
            except NoHost as none:
                self._note(str(none))
            except OutOfMemory:
                raise
            except (NotPresent, NotPermitted, NotSupported) as error:
                # A fork that lacks something of its parent's may well find no GPU.
                log.warning("%s: %s; a plain start has to say the same", self.name, error)
                doubt = str(error)
            except (Died, Unresponsive) as error:
                self._doubt = str(error)
                raise
            else:
                self._note("")
                self._strikes = 0
                return facts
        facts = await launch(Child.start)
        if doubt:
            self._strikes += 1
            self._note(f"a server forked from it did not start ({doubt}), a plain one did")
            if self._strikes == STRIKES:
                await self._give_up(self.lacks)
        return facts

    async def end(self) -> None:
        """End the host; its servers go on. Idempotent."""
        if self._process is not None:
            self._process.kill()
            await self._process.ended.wait()
            self._process = None

    async def _prepare(self, install: Hashable, env: Mapping[str, str], *, within_s: float) -> None:
        """Have a host of this vLLM, with this environment, that is ready to fork.

        One of another is ended first; one that cannot be had is not tried again, unless
        it was killed (the kernel may have wanted its memory) or could not be begun: for
        want of processes or descriptors, say, which may be there the next time.
        Cancelling it leaves the host to its imports. Raises NoHost.
        """
        like = (install, tuple(sorted(env.items())))
        if like in self._unfit:
            raise NoHost(self._unfit[like])
        if self._process is not None and (self._process.ended.is_set() or self._like != like):
            await self.end()
        if self._process is None:
            self._like = like
            self._process = HostProcess(self.name)
            try:
                await self._process.start(self._command, self._arguments, env)
            except NoHost:
                self._process = None
                raise
        within_s = min(within_s, READY_PATIENCE_S)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._process.ready)
        except TimeoutError as error:
            await self._give_up(f"it was not ready within {within_s:.0f} s")
            raise NoHost(self._unfit[like]) from error
        except NoHost as error:
            self._kills += self._process.killed
            if self._process.killed and self._kills < STRIKES:
                await self.end()
            else:
                await self._give_up(str(error))
            raise

    async def _fork(
        self,
        child: Child,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: Path,
        grace_s: float,
        group: str,
    ) -> None:
        """As Child.start, of the prepared host. `command` begins with its Python.

        Raises NoHost too: then nothing is left of it.
        """
        process = self._process
        if process is None:
            raise NoHost("it has ended")
        order = {
            "command": list(command[1:]),
            "env": dict(env),
            "directory": str(directory),
            "grace_s": grace_s,
            "group": group,
        }

        async def connect() -> None:
            guard = await ForkedGuard.order(child, process, order)
            try:
                async with asyncio.timeout(FORK_PATIENCE_S):
                    await asyncio.shield(guard.forked)
            except TimeoutError as error:
                process.kill()
                raise NoHost(f"it did not answer within {FORK_PATIENCE_S:.0f} s") from error

        await child.follow(directory, connect)

    async def _give_up(self, why: str) -> None:
        """Have no more of hosts like this one."""
        self._unfit[self._like] = why
        await self.end()

    def _note(self, why: str) -> None:
        if why and why != self.lacks:
            log.warning("%s: %s; started without it", self.name, why)
        self.lacks = why
