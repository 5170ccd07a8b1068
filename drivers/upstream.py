"""HTTP to an engine's unix socket: one request, one reply, whole events, no retries.

Nothing here knows vLLM's lifecycle: when a connection breaks, `blame` decides
whether the engine is gone or merely did not answer.

A stall is judged for the engine as a whole. A request that waits behind others
gets no byte for minutes and nothing is wrong; but when the engine sends nobody
anything, and nothing else shows progress either, everybody who waits is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp

from drivers.errors import DriverError, Unresponsive
from drivers.protocols import Reply

# vLLM keeps an idle connection for 5 s unless told otherwise (VLLM_HTTP_TIMEOUT_KEEP_ALIVE);
# ours must go first, or a request may be sent into a connection that is being closed.
POOL_KEEP_S = 60
SERVER_KEEP_S = 600

FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


class Upstream:
    """A pool of connections to one server, from open() to close().

    `blame` gets the reason of a broken connection and returns what to raise.
    """

    def __init__(
        self,
        name: str,
        socket: Path,
        *,
        stall_timeout_s: float,
        blame: Callable[[str], Awaitable[DriverError]],
    ) -> None:
        self.name = name
        self.stall_timeout_s = stall_timeout_s
        self.blame = blame
        self._socket = socket
        self._calls: set[Call] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._session: aiohttp.ClientSession

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            "http://engine",
            connector=aiohttp.UnixConnector(
                str(self._socket), limit=0, keepalive_timeout=POOL_KEEP_S
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            headers={"Content-Type": "application/json"},
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections: whoever still waits for a reply has it broken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._session.close()

    async def healthy(self) -> bool:
        """Ask /health once. False if the server does not listen (yet)."""
        try:
            async with asyncio.timeout(2), self._session.get("/health") as response:
                return response.status == 200
        except FAILURES:
            return False

    @property
    def busy(self) -> bool:
        """Whether anybody is being answered."""
        return bool(self._calls)

    async def ask(self, method: str, path: str, *, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of a question of our own, which counts as nobody's request.

        Raises Unresponsive after `timeout_s`; else what `blame` returns.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, path) as response,
            ):
                return response.status, await response.read()
        except TimeoutError as error:
            late = f"no answer to {path.partition('?')[0]} within {timeout_s:g} s"
            raise Unresponsive(self.name, late) from error
        except FAILURES as error:
            raise await self.blame(f"connection broke: {error!r}") from error

    def heard(self) -> None:
        """The engine has shown that it works."""
        self._heard_s = self._loop.time()

    async def idle(self) -> None:
        """Return when nobody is being answered."""
        await self._idle.wait()

    @contextlib.asynccontextmanager
    async def post(self, path: str, body: bytes, *, stream: bool) -> AsyncIterator[Reply]:
        """Send one request. Leaving early closes its connection, and thereby cancels it.

        Raises what `blame` returns, or Unresponsive, also while the chunks are read.
        """
        call = Call(self)
        self._calls.add(call)
        self._idle.clear()
        self._watch()
        try:
            response = await call.send(self._session.post(path, data=body))
            headers = {name.lower(): value for name, value in response.headers.items()}
            # A refused stream is answered in plain JSON.
            events = stream and headers.get("content-type", "").startswith("text/event-stream")
            yield Reply(response.status, headers, Events(call) if events else Pieces(call))
        finally:
            call.close()
            self.leave(call)

    def leave(self, call: Call) -> None:
        """The call is over: answered to the end, or given up. Also twice."""
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()

    def _watch(self) -> None:
        """Keep one timer for as long as anybody waits for the engine."""
        if self._timer is None and self._calls:
            self._timer = self._loop.call_later(self.stall_timeout_s, self._look)

    def _look(self) -> None:
        self._timer = None
        quiet_since_s = [max(self._heard_s, c.waits_since_s) for c in self._calls if c.waits]
        now_s = self._loop.time()
        due_s = min(quiet_since_s, default=now_s) + self.stall_timeout_s
        if due_s > now_s:
            if self._calls:
                self._timer = self._loop.call_at(due_s, self._look)
            return
        for call in list(self._calls):
            if call.waits:
                call.give_up()


class Call:
    """One request on its way, and whether it is the engine that it waits for."""

    __slots__ = ("_response", "_scope", "_stalled", "_upstream", "waits", "waits_since_s")

    def __init__(self, upstream: Upstream) -> None:
        self.waits = False
        self.waits_since_s = 0.0
        self._upstream = upstream
        self._stalled = False
        self._scope: asyncio.Timeout | None = None
        self._response: aiohttp.ClientResponse | None = None

    async def send(self, request: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """Wait for status and headers."""
        self._wait()
        try:
            async with asyncio.timeout(None) as self._scope:
                self._response = await request
        except FAILURES as error:
            raise await self._failure(error) from error
        finally:
            self._scope = None
            self.waits = False
        self._upstream.heard()
        return self._response

    async def read(self) -> bytes:
        """Whatever has arrived since the last read, at least one byte; b"" at the end."""
        assert self._response is not None
        self._wait()
        try:
            data = await self._response.content.readany()
        except FAILURES as error:
            raise await self._failure(error) from error
        finally:
            self.waits = False
        self._upstream.heard()
        if not data:
            self._upstream.leave(self)
        return data

    async def broken(self, why: str) -> DriverError:
        return await self._upstream.blame(why)

    def give_up(self) -> None:
        """Break the wait that is under way: the engine has stalled."""
        self._stalled = True
        if self._scope is not None:
            self._scope.reschedule(0)
        else:
            self.close()

    def close(self) -> None:
        """Let go of the connection: back to the pool if the reply is complete, else closed."""
        if self._response is not None:
            self._response.close()

    def _wait(self) -> None:
        self.waits = True
        self.waits_since_s = asyncio.get_running_loop().time()

    async def _failure(self, error: Exception) -> DriverError:
        if self._stalled:
            quiet = f"no byte for {self._upstream.stall_timeout_s:.0f} s"
            return Unresponsive(self._upstream.name, quiet)
        return await self.broken(f"connection broke: {error!r}")


class Pieces:
    """A body as it comes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._call.read():
            return data
        raise StopAsyncIteration


class Events:
    """Server-sent events, cut between events only: all whole ones of a read in one chunk."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while data := await self._call.read():
            if not self._rest and data.endswith(b"\n\n"):
                return data  # nearly always: nothing is copied
            data = self._rest + data
            end = data.rfind(b"\n\n") + 2
            if end > 1:
                self._rest = data[end:]
                return data[:end]
            self._rest = data
        if self._rest:
            raise await self._call.broken("the stream ended inside an event")
        raise StopAsyncIteration
