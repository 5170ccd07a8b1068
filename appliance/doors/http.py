"""The HTTP door: OpenAI's API on a TCP port (docs/http.md).

The engine's own server stands behind it, on a socket that no client reaches: what comes
in is understood here, and what is not known here goes nowhere. A live call ends with its
connection; what was accepted to disk does not. What a client does not read is not kept
for it: after a while it is dropped.

Paths: http_paths. Prompts: http_asking. Below: who may, what is read, what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from appliance.clock import Clock
from appliance.config_http import Address, Http
from appliance.desk import Desk
from appliance.doors.http_asking import Asking
from appliance.doors.http_events import SILENT_S
from appliance.doors.http_gate import Gate
from appliance.doors.http_paths import Paths
from appliance.doors.http_problem import Problem, told
from appliance.doors.tcp_listener import listening
from appliance.doors.unix_listener import find_inherited
from appliance.errors import ConfigError, Interrupted

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 500
STALLED_S = 30.0
KEEP_ALIVE_S = 75.0
"""An idle connection is kept so long; browsers and proxies keep theirs for less."""
LINGER_S = 2.0
"""What a client goes on sending is read for so long, so that it sees why it was refused."""
STOP_S = 1.0
HIGH_BYTES = 2**14
"""Kept of a stream for a client that does not read, besides what the kernel keeps. With 0,
uvloop would not join what is written together, and each piece would be a system call."""

FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class HttpDoor:
    """Serves clients for as long as `run` runs.

    A client that has not taken what was sent for `stalled_s`, or has not sent what it
    began, is dropped. One that streams hears something every `silent_s`.

    Raises ConfigError for keys that cannot be used.
    """

    def __init__(
        self,
        config: Http,
        *,
        desk: Desk,
        clock: Clock,
        max_request_bytes: int,
        stalled_s: float = STALLED_S,
        silent_s: float = SILENT_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._config, self._desk, self._clock = config, desk, clock
        self._gate = Gate(config)
        self._max_request_bytes = max_request_bytes
        self._stalled_s, self._silent_s = stalled_s, silent_s
        self._max_connections = max_connections
        self._paths: Paths
        self._open = 0
        self._serving: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled. Calls `ready` once clients can connect.

        Afterwards nobody is connected. Raises ConfigError if it cannot listen.
        """
        with contextlib.ExitStack() as stack:
            listener = find_inherited("wattnap-http")
            if listener is None:
                assert self._config.address is not None
                listener = stack.enter_context(listening(self._config.address))
            elif listener.family != socket.AF_UNIX:
                check(self._config, Address(*listener.getsockname()[:2]))
            async with asyncio.TaskGroup() as beside:
                asking = Asking(
                    self._desk,
                    self._clock,
                    max_request_bytes=self._max_request_bytes,
                    stalled_s=self._stalled_s,
                    silent_s=self._silent_s,
                    spawn=beside.create_task,
                )
                self._paths = Paths(
                    self._gate, asking, self._desk, self._clock, stalled_s=self._stalled_s
                )
                manager = web.Server(self._serve, handler_cancellation=True)
                loop = asyncio.get_running_loop()
                server = await loop.create_server(
                    lambda: Connection(self, manager, loop), sock=listener
                )
                try:
                    ready()
                    await asyncio.Event().wait()
                finally:
                    server.close()
                    self._stopping = True
                    for task in self._serving:
                        task.cancel()
                    await manager.shutdown(STOP_S)

    def enter(self) -> bool:
        """One more connection. False: there are too many."""
        self._open += 1
        return self._open <= self._max_connections

    def leave(self) -> None:
        self._open -= 1

    @property
    def stalled_s(self) -> float:
        return self._stalled_s

    async def _serve(self, http: BaseRequest) -> StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            response = await self._paths.serve(http)
            await response.prepare(http)
            await response.write_eof()
            asyncio.get_running_loop().call_soon(cast("Connection", http.protocol).watch)
            return response  # noqa: TRY300 - what it raises is meant, too
        except asyncio.CancelledError:
            if not self._stopping or http.writer.output_size:
                raise
            task.uncancel()
            return told(Interrupted(), {})
        except ConnectionError:
            raise
        except Exception:  # a mistake of ours in serving one client ends no other's connection
            log.exception("a request over HTTP ended in a mistake of ours")
            if http.writer.output_size:
                raise ConnectionResetError from None
            mistake = Problem(500, "internal", "a mistake in the appliance; its log says more")
            return told(mistake, {})
        finally:
            self._serving.discard(task)


def check(config: Http, address: Address) -> None:
    """Raises ConfigError if systemd has opened the door wider than the configuration allows."""
    try:
        config.check(address)
    except ValueError as error:
        raise ConfigError(str(error)) from error


class Connection(RequestHandler):
    """One client's. Watches that it reads what it is sent."""

    __slots__ = ("_counted", "_door", "_stalled", "_wire")

    def __init__(
        self, door: HttpDoor, manager: web.Server, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=KEEP_ALIVE_S,
            access_log=None,  # type: ignore[arg-type]  # it may be None
            logger=log,
            auto_decompress=False,
            lingering_time=LINGER_S,
        )
        self._door = door
        self._counted = False
        self._wire: asyncio.Transport
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire, self._counted = cast("asyncio.Transport", transport), True
        self._wire.set_write_buffer_limits(high=HIGH_BYTES, low=0)
        if self._door.enter():
            super().connection_made(transport)
        else:
            self._wire.write(FULL)
            self._wire.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._door.leave()
        self._calm()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._calm()
        self._stalled = self._loop.call_later(self._door.stalled_s, self._wire.abort)

    def resume_writing(self) -> None:
        self._calm()
        self._wire.set_write_buffer_limits(high=HIGH_BYTES, low=0)
        super().resume_writing()

    def watch(self) -> None:
        """All of a response has been said: however little is left of it, it is to be taken."""
        if not self._wire.is_closing() and self._wire.get_write_buffer_size():
            self._wire.set_write_buffer_limits(high=0)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """What is no HTTP. Nothing is logged: whoever can connect could fill the log."""
        if request.writer.output_size:
            raise ConnectionResetError from exc
        response = told(Problem(status, "bad_http", message or "this is no HTTP request"), {})
        response.force_close()
        return response

    def _calm(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
