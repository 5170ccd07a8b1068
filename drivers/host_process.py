"""The daemon's end of a warm host: its process, and the guards that it has forked.

The host is drivers.vllm_host. Its output is not a server's: it is logged at DEBUG
under its own name. Callbacks of the event loop do the work; nothing is polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from drivers import vllm_host
from drivers.process import Child

log = logging.getLogger(__name__)

TAIL_LINES = 20
ORDERS = 0  # the one pipe of a guard's that we write to


class NoHost(Exception):
    """No server could be had from a warm host. Says why, for people; a plain start remains."""


class HostProcess(asyncio.SubprocessProtocol):
    """One host, from its fork to its end."""

    def __init__(self, name: str) -> None:
        self.ended = asyncio.Event()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.killed = False
        """It has ended by a signal, which may have been nothing of its own doing."""
        self._name = name
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._unread = b""
        self._asked: deque[ForkedGuard] = deque()
        self._control: socket.socket | None = None
        self._transport: asyncio.SubprocessTransport | None = None

    async def start(
        self, command: Sequence[str], arguments: Sequence[str], env: Mapping[str, str]
    ) -> None:
        """Raises NoHost if there can be no process; then nothing is left of it."""
        loop = asyncio.get_running_loop()
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._control.setblocking(False)
                loop.add_reader(self._control, self._hear)
                await loop.subprocess_exec(
                    lambda: self,
                    *command,
                    *(str(os.getpid()), str(theirs.fileno())),
                    *arguments,
                    env=dict(env),
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            why = f"it cannot be started: {error.strerror}"
            self._hang_up(why)
            self.ended.set()
            raise NoHost(why) from error
        except BaseException:
            self.kill()
            raise

    def ask(self, guard: ForkedGuard, order: dict[str, Any], pipes: Sequence[int]) -> None:
        """Order a guard of it, which will be told what has come of that."""
        self._asked.append(guard)
        try:
            if self._control is None:
                raise BrokenPipeError
            socket.send_fds(self._control, [json.dumps(order).encode()], list(pipes))
        except OSError as error:
            self._asked.remove(guard)
            guard.refuse(f"it cannot be asked: {error.strerror or 'it has ended'}")

    def kill(self) -> None:
        """End it and what its imports have started, but no guard: those lead their own groups."""
        if self._transport is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def _hear(self) -> None:
        assert self._control is not None
        descriptors: list[int] = []
        message = b""
        with contextlib.suppress(OSError):
            message, descriptors, _, _ = socket.recv_fds(
                self._control, vllm_host.MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        match json.loads(message or "{}"):
            case {"ready": seconds}:
                log.debug("%s: ready after %.1f s", self._name, seconds)
                self.ready.set_result(None)
            case {"unfit": why}:
                self._fail(why)
            case {"forked": _}:
                self._asked.popleft().follow(descriptors[0])
            case {"refused": why}:
                self._asked.popleft().refuse(why)
            case _:
                self._hang_up("it has ended")

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(NoHost(why))
            self.ready.exception()  # seen: nobody may be waiting any more

    def _hang_up(self, why: str) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        while self._asked:
            self._asked.popleft().refuse(why)

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, _: int, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self._tail.append(text)
            log.debug("%s: %s", self._name, text)

    def connection_lost(self, _: Exception | None) -> None:
        """It has ended, and all of its output is here."""
        assert self._transport is not None
        status = self._transport.get_returncode()
        last = f": {self._tail[-1]}" if self._tail else ""
        why = f"it ended with {status}{last}"
        self.killed = status is not None and status < 0
        self._hang_up(why)
        self._fail(why)
        self._transport.close()
        self.ended.set()


class ForkedGuard(asyncio.SubprocessTransport):
    """What a Child needs of a guard that a host has forked: its pipes, its end, its death.

    `forked` is done once it runs, or raises NoHost if it will not.
    """

    def __init__(self, child: Child, host: HostProcess) -> None:
        super().__init__()
        self.forked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._child, self._host = child, host
        self._pipes: list[asyncio.BaseTransport] = []
        self._pidfd: int | None = None

    @classmethod
    async def order(cls, child: Child, host: HostProcess, order: dict[str, Any]) -> ForkedGuard:
        """Ask `host` for one that follows `order`; `child` is connected to it at once."""
        guard = cls(child, host)
        with contextlib.ExitStack() as theirs:
            try:
                pipes = [await guard._pipe(number, theirs) for number in range(3)]
            except BaseException:
                guard.close()
                raise
            child.connection_made(guard)
            host.ask(guard, order, pipes)
        return guard

    async def _pipe(self, number: int, theirs: contextlib.ExitStack) -> int:
        """Make the guard's descriptor `number`; `theirs` closes it here."""
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        ours, other = (write, read) if number == ORDERS else (read, write)
        theirs.callback(os.close, other)
        connect = loop.connect_write_pipe if number == ORDERS else loop.connect_read_pipe
        file = os.fdopen(ours, "wb" if number == ORDERS else "rb", 0)
        try:
            transport, _ = await connect(partial(Pipe, number, self._child), file)
        except BaseException:
            file.close()
            raise
        self._pipes.append(transport)
        return other

    def follow(self, pidfd: int) -> None:
        """It has been forked."""
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._end)  # readable once it has ended
        if not self.forked.done():
            self.forked.set_result(None)

    def refuse(self, why: str) -> None:
        """It has not been forked, or the host was killed meanwhile, and with it the news."""
        if not self.forked.done():
            self.forked.set_exception(NoHost(why))
            self.forked.exception()  # seen: whoever waited may have lost patience
        self._child.process_exited()

    def _end(self) -> None:
        self._let_go()
        self._child.process_exited()

    def _let_go(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    # What a Child asks of it.

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self._pipes[fd]

    def kill(self) -> None:
        if self._pidfd is None:
            self._host.kill()  # it has not answered: then nobody else holds our pipes
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        self._let_go()
        for pipe in self._pipes:
            pipe.close()


class Pipe(asyncio.Protocol):
    """Passes on what comes out of one pipe of a guard."""

    def __init__(self, number: int, child: Child) -> None:
        self._number, self._child = number, child

    def data_received(self, data: bytes) -> None:
        self._child.pipe_data_received(self._number, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._child.pipe_connection_lost(self._number, error)
