"""The socket door: newline-delimited JSON on a unix socket (docs/socket.md).

Who a client is, is what the kernel says: its user. Ids are unique per user. A
live call ends with its connection; a submitted request does not. What a client
does not read is not kept for it: its calls wait, and after a while it is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from pathlib import Path

from appliance.desk import Desk
from appliance.doors import socket_lines as lines
from appliance.doors.socket_connection import Connection
from appliance.doors.unix_listener import find_inherited, listening
from appliance.errors import InboxFull

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 200
STALLED_S = 30.0
READ_AHEAD_BYTES = 2**16


class SocketDoor:
    """Serves clients at `path` for as long as `run` runs.

    A line may be twice as long as `max_request_bytes`, and an envelope: JSON
    writes some characters as two. A client that has not taken what was sent for
    `stalled_s` is dropped.
    """

    def __init__(
        self,
        *,
        path: Path,
        mode: int,
        group: str,
        desk: Desk,
        max_request_bytes: int,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._path, self._mode, self._group = path, mode, group
        self._desk = desk
        self._max_request_bytes = max_request_bytes
        self._stalled_s = stalled_s
        self._open = 0

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled. Calls `ready` once clients can connect.

        Afterwards nobody is connected, live calls are ended, and the socket
        file is gone, but for one that systemd made.

        Raises ConfigError if it cannot listen at `path`.
        """
        with contextlib.ExitStack() as stack:
            listener = find_inherited("wattnap")
            if listener is None:
                at = listening(self._path, mode=self._mode, group=self._group)
                listener = stack.enter_context(at)
            async with asyncio.TaskGroup() as connections:

                def connected(reader: StreamReader, writer: StreamWriter) -> None:
                    connections.create_task(self._serve(reader, writer), name="socket client")

                server = await asyncio.start_unix_server(
                    connected, sock=listener, limit=READ_AHEAD_BYTES
                )
                try:
                    ready()
                    await asyncio.Event().wait()
                finally:
                    server.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                writer.write(lines.failed(None, None, InboxFull(MAX_CONNECTIONS, 1.0)))
            else:
                connection = Connection(
                    reader,
                    writer,
                    desk=self._desk,
                    max_request_bytes=self._max_request_bytes,
                    stalled_s=self._stalled_s,
                )
                await connection.serve()
        except Exception:  # a mistake of ours in serving one client ends no other's connection
            log.exception("a client's connection ended in a mistake of ours")
        finally:
            self._open -= 1
            writer.close()
            # The peer may be gone already, or may not read what is left for it.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()
            writer.transport.abort()
