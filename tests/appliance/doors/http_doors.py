"""The HTTP door under test, at work beside the test, and ways to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil

from appliance.clock import SystemClock
from appliance.config_http import Http
from appliance.desk import Desk
from appliance.doors.http import HttpDoor
from tests.appliance.doors.opened import opened
from tests.brokers import free_port

LIMIT = 64 * 1024
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"Content-Type": "application/json"}


class Served:
    """A door that is open, and a client of it."""

    def __init__(self, port: int, session: aiohttp.ClientSession, task: asyncio.Task[None]) -> None:
        self.port, self.session, self.task = port, session, task

    async def ask(
        self, text: str, *, path: str = CHAT, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, Any]:
        """Status and JSON."""
        return await self.post(path, asked(text, path, **more), headers)

    async def post(
        self, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        async with self.session.post(path, json=body, headers=headers) as reply:
            return reply.status, await reply.json()

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        async with self.session.get(path, headers=headers) as reply:
            return reply.status, await reply.json()

    async def stream(self, text: str, *, path: str = CHAT, **more: Any) -> bytes:
        """All that was streamed."""
        body = asked(text, path, stream=True, **more)
        async with self.session.post(path, json=body) as reply:
            assert reply.status == 200
            assert reply.content_type == "text/event-stream"
            return await reply.read()

    async def raw(self, *sent: bytes) -> bytes:
        """What comes back for some bytes, until the door closes the connection."""
        async with self.connected() as (reader, writer):
            for piece in sent:
                writer.write(piece)
                await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read()

    def connections(self) -> int:
        """Of this process to the door, as the kernel sees them from the door's end."""
        found = psutil.Process().net_connections("tcp")
        return sum(c.laddr.port == self.port and c.status != "LISTEN" for c in found)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A client without a library, which hangs up in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def asked(text: str, path: str = CHAT, **more: Any) -> dict[str, Any]:
    said = {"prompt": text} if path == TEXT else {"messages": [{"role": "user", "content": text}]}
    return {"model": "main", **said, **more}


def request(body: bytes, path: str = CHAT, *headers: str) -> bytes:
    """As it goes over the wire; `headers` come before ours."""
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", *headers)
    head = "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {len(body)}"))
    return head.encode() + b"\r\n\r\n" + body


def encoded(text: str, **more: Any) -> bytes:
    return json.dumps(asked(text, **more)).encode()


async def eventually(true: Callable[[], bool]) -> None:
    """Return once it is: what only the kernel knows, nobody tells."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    desk: Desk, config: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """The door, open from here to the end of the block."""
    port = free_port()
    http = Http(**{"listen": f"127.0.0.1:{port}", **(config or {})})
    given = {"max_request_bytes": LIMIT, **settings}
    door = HttpDoor(http, desk=desk, clock=SystemClock(), **given)
    async with (
        opened(door) as task,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield Served(port, session, task)
