"""A process of the demo's that ends with the demo, whatever ends the demo."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.errors import CommandError

STOP_TIMEOUT_S = 45.0
LAST_LINES = 12
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildFailed(CommandError):
    """A process that the demo needs would not start, or ended."""

    code = "demo"


class Child:
    """Made by `running`. Its output goes to a file, and its last lines are remembered."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._heard = asyncio.Condition()

    @property
    def last_words(self) -> str:
        return "\n".join(self._last)

    async def said(self, words: str) -> None:
        """Return once a line of its output contains them.

        Raises ChildFailed if it ends before that.
        """
        async with self._heard:
            while not any(words in line for line in self._last):
                if self._process.returncode is not None:
                    raise self._failed()
                await self._heard.wait()

    async def ended(self) -> None:
        """Wait for its end, and raise ChildFailed: nobody has asked it to."""
        await self._process.wait()
        raise self._failed()

    def _failed(self) -> ChildFailed:
        last = self._last[-1] if self._last else "without a word"
        return ChildFailed(f"{self.name} ended with status {self._process.returncode}: {last}")

    async def listen(self, log: Path) -> None:
        """Take its output, for as long as there is any."""
        assert self._process.stdout is not None
        with log.open("ab", buffering=0) as file:
            async for line in self._process.stdout:
                file.write(line)
                await self._hear(line.decode(errors="replace").rstrip())
        await self._process.wait()
        await self._hear("")

    async def _hear(self, line: str) -> None:
        async with self._heard:
            if line:
                self._last.append(line)
            self._heard.notify_all()

    async def stop(self) -> None:
        """Return when it has ended: told to, or killed after STOP_TIMEOUT_S."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):  # it ends at the same moment
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(name: str, command: Sequence[str], log: Path) -> AsyncIterator[Child]:
    """The command as a child, stopped when the context is left.

    It has a session of its own, so that a terminal's Ctrl-C comes to the demo
    alone, which stops things in their order.

    Raises ChildFailed if there is no such program.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
            limit=2**20,
        )
    except OSError as error:
        raise ChildFailed(f"{name}: {command[0]}: {error.strerror}") from error
    child = Child(name, process)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.listen(log), name=f"output of {name}")
        try:
            yield child
        finally:
            await child.stop()


_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_parent = os.getpid()


def _end_with_parent() -> None:
    """Even a SIGKILL of the demo ends the child; its own children are its own duty."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != _parent:  # it died before it could be asked for that
            os._exit(1)
