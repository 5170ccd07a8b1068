"""What one client of the socket door is sent: lines that come together leave together."""

from __future__ import annotations

import asyncio
from asyncio import StreamWriter

FULL_BYTES = 65536
"""Kept for a client that does not read, before whoever sends has to wait."""


class Lines:
    """`send` lines, in order. A client that reads nothing for `stalled_s` is cut off."""

    def __init__(self, writer: StreamWriter, *, stalled_s: float) -> None:
        self._writer, self._stalled_s = writer, stalled_s
        self._loop = asyncio.get_running_loop()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._draining = asyncio.Lock()  # one waits for the client, the others for that one

    async def send(self, line: bytes) -> None:
        """Return once the client, or the small buffer on its way, has taken it.

        Raises OSError if the client is gone, or does not read.
        """
        if self._writer.is_closing():
            raise ConnectionResetError("the client is gone")
        if self._draining.locked():
            async with self._draining:
                pass
        self.put(line)
        if self._kept_bytes + self._writer.transport.get_write_buffer_size() > FULL_BYTES:
            await self._drain()

    def put(self, line: bytes) -> None:
        """Send it without waiting for anything: for the last words."""
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(line)
        self._kept_bytes += len(line)

    def flush(self) -> None:
        """Hand to the system what has come together."""
        if self._kept and not self._writer.is_closing():
            self._writer.write(b"".join(self._kept))
        self._kept, self._kept_bytes = [], 0

    async def _drain(self) -> None:
        async with self._draining:
            self.flush()
            try:
                async with asyncio.timeout(self._stalled_s):
                    await self._writer.drain()
            except OSError:  # a TimeoutError is one
                self._writer.transport.abort()
                raise
