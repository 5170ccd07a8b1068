"""One client of the socket door: its lines in, its events out, and its leaving."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import struct
from asyncio import StreamReader, StreamWriter

from appliance.desk import Desk
from appliance.doors import socket_lines as lines
from appliance.doors.socket_lines import AnyOp
from appliance.doors.socket_ops import DOOR, Caller
from appliance.doors.socket_sending import Lines
from appliance.errors import ApplianceError, BadRequest, InboxFull, Interrupted, TooLarge

log = logging.getLogger(__name__)

MAX_OPS = 64  # at once
ENVELOPE_BYTES = 4096


class Connection:
    """Several ops may run at once; each event carries its op's tag."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        *,
        desk: Desk,
        max_request_bytes: int,
        stalled_s: float,
    ) -> None:
        self._reader = reader
        self._out = Lines(writer, stalled_s=stalled_s)
        self._desk = desk
        self._max_request_bytes, self._stalled_s = max_request_bytes, stalled_s
        self._line_bytes = 2 * max_request_bytes + ENVELOPE_BYTES
        self._socket = writer.get_extra_info("socket")
        self._client = f"uid:{peer_uid(self._socket)}"
        self._running = 0
        self._live: set[asyncio.Task[None]] = set()
        """Those that may be cancelled: nothing they have promised is lost by it."""
        self._gone = False

    async def serve(self) -> None:
        """Until the client has gone, or has said all and been answered."""
        try:
            async with asyncio.TaskGroup() as watch:
                async with asyncio.TaskGroup() as ops:
                    try:
                        await self._take_lines(ops)
                    except OSError:
                        self._drop()
                    left = watch.create_task(self._drop_when_gone())
                left.cancel()
        finally:
            self._out.flush()

    async def _take_lines(self, ops: asyncio.TaskGroup) -> None:
        """Start an op for each line. Returns at the end of the input."""
        while True:
            line = await self._line()
            if len(line) > self._line_bytes:
                await self._refuse_long_line(line)
                self._drop()
                return
            if line.strip() or line.endswith(b"\n"):
                await self._start(ops, line)
            if not line.endswith(b"\n"):
                return

    async def _line(self) -> bytes:
        """The next line, or as much of it as tells that it is too long; at the end, the rest."""
        line = bytearray()
        while len(line) <= self._line_bytes:
            try:
                return bytes(line) + await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as more:
                # Only a line that is being read is kept: what a client sends
                # ahead of what we answer stays in its own memory.
                line += await self._reader.readexactly(more.consumed)
            except asyncio.IncompleteReadError as end:
                return bytes(line) + end.partial
        return bytes(line)

    async def _start(self, ops: asyncio.TaskGroup, line: bytes) -> None:
        try:
            op = lines.understand(line)
        except BadRequest as error:
            hint = lines.hint(line)
            if line.strip() and hint.is_request:
                await self._desk.refused(DOOR, self._client, hint.id, error)
            await self._send(lines.failed(hint.tag, hint.id, error))
            return
        if self._running >= MAX_OPS:
            await self._send(lines.failed(op.tag, None, InboxFull(MAX_OPS, 1.0)))
            return
        self._running += 1
        ops.create_task(self._carry_out(op), name=f"socket {type(op).__name__.lower()}")

    async def _carry_out(self, op: AnyOp) -> None:
        task = asyncio.current_task()
        assert task is not None
        about: str | None = getattr(op, "id", None)
        caller = Caller(
            self._desk,
            self._client,
            send=self._send,
            may_cancel=lambda: self._live.add(task),
            max_request_bytes=self._max_request_bytes,
        )
        try:
            await caller.carry_out(op)
        except ApplianceError as error:
            with contextlib.suppress(OSError):  # gone meanwhile: `_send` has noticed
                await self._send(lines.failed(op.tag, about, error))
        except OSError:
            log.debug("%s is gone", self._client)
        except asyncio.CancelledError:
            if task in self._live and not self._gone:
                self._out.put(lines.failed(op.tag, about, Interrupted()))
            raise
        finally:
            self._live.discard(task)
            self._running -= 1

    async def _send(self, line: bytes) -> None:
        """Send an event; whoever does not take it has left. Raises OSError then."""
        try:
            await self._out.send(line)
        except OSError:
            self._drop()
            raise

    async def _refuse_long_line(self, line: bytes) -> None:
        """Read on to its end: cut off in mid-sentence, a client would not see why."""
        size, newline = len(line), line[-1:] == b"\n"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stalled_s):
                while not newline and (chunk := await self._reader.read(2**16)):
                    newline = b"\n" in chunk
                    size += chunk.find(b"\n") if newline else len(chunk)
        error = TooLarge(size, self._max_request_bytes)
        await self._desk.refused(DOOR, self._client, None, error)
        await self._send(lines.failed(None, None, error))

    async def _drop_when_gone(self) -> None:
        """It has said all it wants to say, and may still listen. Ends its calls when it stops."""
        if self._gone or self._socket.fileno() < 0:  # closed already, as writing to it failed
            self._drop()
            return
        left = asyncio.Event()
        loop = asyncio.get_running_loop()
        with select.epoll() as watch:
            watch.register(self._socket.fileno(), 0)  # a hang-up is told unasked, epoll_ctl(2)
            loop.add_reader(watch.fileno(), left.set)
            try:
                await left.wait()
            finally:
                loop.remove_reader(watch.fileno())
        self._drop()

    def _drop(self) -> None:
        self._gone = True
        for task in self._live:
            task.cancel()


def peer_uid(connection: socket.socket) -> int:
    """Of the process at the other end, by the kernel: struct ucred of unix(7)."""
    ucred = struct.Struct("iII")
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
    _, uid, _ = ucred.unpack(told)
    return int(uid)
