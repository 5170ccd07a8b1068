"""A child process under a guard: started, drained, ended, and never left behind.

Callbacks of the event loop do the draining, so there is no task to leak and
nothing to poll. The loop never waits for the child: what blocks runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from drivers import guard
from drivers.leftovers import sweep

log = logging.getLogger(__name__)

TAIL_LINES = 200
LINE_BYTES = 8192  # a longer line is cut into several
KILL_PATIENCE_S = 5.0
"""How long the guard may take to end everything before it is ended itself."""


class Child(asyncio.SubprocessProtocol):
    """One program and its descendants, from start() until all of them are gone.

    `on_line` gets each line of output, stdout and stderr alike, without its end.
    `on_end` is called once, when nothing is left.
    """

    def __init__(
        self,
        name: str,
        *,
        on_line: Callable[[str], None] = lambda _: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.pid = 0
        self.others: tuple[int, ...] = ()
        """Pids of its descendants, as of the last note()."""
        self.status: int | None = None
        """Exit status once all is gone, negative for a signal; -9 if nobody knows."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The last lines of its output."""
        self._on_line = on_line
        self._on_end = on_end
        self._unread = {1: b"", 2: b""}
        self._directory = Path()
        self._loop: asyncio.AbstractEventLoop
        self._transport: asyncio.SubprocessTransport | None = None
        self._guard_gone = 0  # of two signs: its exit, and the end of its reports
        self._started = asyncio.Event()
        self._noted = asyncio.Event()
        self._ended = asyncio.Event()

    async def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: Path,
        grace_s: float = 10.0,
        group: str = "",
    ) -> None:
        """Run `command` in `directory`, which exists, is its own, and goes with it.

        `group` names its control group, below ours; without effect where we may not
        have any (drivers.cgroup).

        Cancelling it ends what was started. A command that cannot be run ends with
        status 127 and says why in its output.
        """
        loop = asyncio.get_running_loop()
        own = [sys.executable, "-I", "-S", guard.__file__, str(directory), str(grace_s), group]
        # A session of its own keeps the terminal's Ctrl-C away: the daemon decides.
        await self.follow(
            directory,
            lambda: loop.subprocess_exec(
                lambda: self, *own, *command, env=dict(env), cwd=directory, start_new_session=True
            ),
        )

    async def follow(self, directory: Path, connect: Callable[[], Awaitable[object]]) -> None:
        """Be the child of the guard, of `directory`, that `connect` starts.

        It calls connection_made() with a transport to that guard, and may raise.
        """
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        try:
            await connect()
            await self._started.wait()
        except BaseException:
            if self._transport is not None:
                await self.kill()
            raise

    async def note(self) -> None:
        """Let the guard write down the present descendants; `others` has them then."""
        self._noted.clear()
        self._order(b"note\n")
        await self._noted.wait()

    async def kill(self) -> None:
        """End everything at once. Returns when nothing is left, at most within 15 s.

        A guard that does not obey (frozen, say) is ended too, and swept after.
        """
        if self.ended:
            return
        self._order(b"kill\n")
        try:
            async with asyncio.timeout(KILL_PATIENCE_S):
                await self._ended.wait()
        except TimeoutError:
            if self._transport is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just gone by itself
                    self._transport.kill()
            await self._ended.wait()

    def end(self) -> None:
        """Begin to end everything: on_end will tell."""
        self._order(b"kill\n")

    async def wait(self) -> int:
        """Return the exit status once nothing is left."""
        await self._ended.wait()
        assert self.status is not None
        return self.status

    @property
    def ended(self) -> bool:
        """Nothing of it is left, or it never began."""
        return self._transport is None or self._ended.is_set()

    def _order(self, order: bytes) -> None:
        stdin = self._transport and self._transport.get_pipe_transport(0)
        if stdin is not None and not stdin.is_closing():
            cast("asyncio.WriteTransport", stdin).write(order)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        # One write's worth of lines is one list; a progress bar ends lines with \r.
        *lines, rest = (self._unread[fd] + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._unread[fd] = rest
        for line in filter(None, lines):
            text = line.decode(errors="replace")
            if fd == 1:
                self._hear(text)
            else:
                self.tail.append(text[:LINE_BYTES])
                log.debug("%s: %s", self.name, text)
                self._on_line(text)

    def pipe_connection_lost(self, fd: int, _: Exception | None) -> None:
        if fd == 1:
            self._lose_guard()

    def process_exited(self) -> None:
        self._lose_guard()

    def _lose_guard(self) -> None:
        self._guard_gone += 1
        if self._guard_gone == 2:
            # If it did its work there is nothing to sweep; if it was killed, there is.
            try:
                swept = self._loop.run_in_executor(None, sweep, self._directory)
            except RuntimeError as error:  # there can be no thread
                swept = self._loop.create_future()
                swept.set_exception(error)
            swept.add_done_callback(self._end)

    def _hear(self, line: str) -> None:
        said = json.loads(line)
        match said["report"]:
            case "started":
                self.pid = said["pid"]
                self._started.set()
            case "noted":
                self.others = tuple(said["pids"])
                self._noted.set()
            case "ended":
                self.status = said["status"]

    def _end(self, swept: asyncio.Future[list[int]]) -> None:
        # Whatever has come of it, somebody waits for the end. The next start sweeps again.
        if (error := swept.exception()) is not None:
            log.warning("%s: what it left could not be swept: %r", self.name, error)
        elif left := swept.result():
            log.debug("%s: could not end %s", self.name, left)
        if self.status is None:
            self.status = -9
        if self._transport is not None:
            self._transport.close()
        for event in (self._started, self._noted, self._ended):
            event.set()
        self._on_end()
