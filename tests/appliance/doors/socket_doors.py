"""The socket door under test, at work beside the test, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from appliance.doors.socket import SocketDoor
from tests.appliance.doors.opened import opened
from tests.fakes.desk import FakeDesk

LIMIT = 64 * 1024

Event = dict[str, Any]  # JSON


@contextlib.asynccontextmanager
async def serving(path: Path, desk: FakeDesk, **other: Any) -> AsyncIterator[asyncio.Task[None]]:
    """The door, open from here to the end of the block."""
    settings: dict[str, Any] = {"mode": 0o660, "group": "", "max_request_bytes": LIMIT, **other}
    door = SocketDoor(path=path, desk=desk, **settings)
    async with opened(door) as task:
        yield task


class Client:
    """A client of the door that reads and writes lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *ops: Event | bytes) -> None:
        for op in ops:
            line = op if isinstance(op, bytes) else json.dumps(op).encode()
            self.writer.write(line + b"\n")
        await self.writer.drain()

    async def event(self) -> Event:
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        assert line.endswith(b"\n"), f"the door closed the connection after {line!r}"
        return json.loads(line)  # type: ignore[no-any-return]

    async def until(self, name: str) -> list[Event]:
        events = [await self.event()]
        while events[-1]["event"] != name:
            events.append(await self.event())
        return events

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
