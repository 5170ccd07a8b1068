"""Server-sent events on their way to a client of the HTTP door.

What the engine says goes on as it is, but for two things that are not the client's: the
usage that was asked of the engine for our accounts, and `[DONE]`, which is held back
until the request has its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest
from msgspec import Struct

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would keep it back to fill its buffers
}
DONE = b"data: [DONE]\n\n"
SILENT_S = 15.0
"""Proxies cut a silent connection after 60 s (nginx) or sooner. Up to then the status is
open, so that an engine that does not start within that time is a plain 503."""


class _Chunk(Struct):
    choices: list[Any] | None = None  # JSON
    usage: Any = None  # JSON


_chunks = msgspec.json.Decoder(_Chunk)


def passed_on(data: bytes, *, usage: bool) -> bytes:
    """Of some whole events those for the client. `usage`: it has asked for that, too."""
    if b"[DONE]" not in data and (usage or b'"usage"' not in data):
        return data  # nearly always: nothing is copied
    events = data.replace(b"\r\n", b"\n").split(b"\n\n")
    return b"".join(event + b"\n\n" for event in events if event and _for_client(event, usage))


def _for_client(event: bytes, usage: bool) -> bool:
    payload = event.removeprefix(b"data:").strip()
    if payload == b"[DONE]":
        return False
    if usage or b'"usage"' not in event:
        return True
    try:
        chunk = _chunks.decode(payload)
    except msgspec.DecodeError:
        return True
    return bool(chunk.choices) or chunk.usage is None


def comment(text: str) -> bytes:
    """A line that clients skip."""
    return b": " + text.encode() + b"\n\n"


class Stream:
    """The response to one client that streams. It begins with the first thing sent.

    note  why it is silent, for whoever looks
    """

    def __init__(
        self,
        request: BaseRequest,
        headers: Mapping[str, str],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        silent_s: float,
    ) -> None:
        """`spawn` has a coroutine run beside."""
        self.note = "waiting"
        self.headers = {**HEADERS, **headers}
        self.response: web.StreamResponse | None = None
        self._request, self._spawn = request, spawn
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.Lock()
        self._sent_s = self._loop.time()
        self._silent_s = silent_s
        self._timer = self._loop.call_later(silent_s, self._look)

    async def send(self, data: bytes) -> None:
        """Return when the client has taken it, but for a little. Raises ConnectionError."""
        self._sent_s = self._loop.time()
        response = self.response or await self._open()
        await response.write(data)

    async def end(self, last: bytes) -> web.StreamResponse:
        """`last` and the end of the response go out together."""
        response = self.response or await self._open()
        await response.write_eof(last)
        return response

    def close(self) -> None:
        """Nothing is sent any more by itself."""
        self._timer.cancel()

    async def _open(self) -> web.StreamResponse:
        async with self._opening:
            if self.response is None:
                response = web.StreamResponse(headers=self.headers)
                await response.prepare(self._request)
                self.response = response
        return self.response

    def _look(self) -> None:
        silent_s = self._loop.time() - self._sent_s
        if silent_s >= self._silent_s:
            self._spawn(self._break_silence())
            silent_s = 0.0
        self._timer = self._loop.call_later(self._silent_s - silent_s, self._look)

    async def _break_silence(self) -> None:
        if self._timer.cancelled():
            return  # it has ended meanwhile
        with contextlib.suppress(ConnectionError):  # whoever serves it is told, too
            await self.send(comment(self.note))
