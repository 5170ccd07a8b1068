"""MQTT by hand, well-formed or not: what no client would send, and what a broken broker might.

MQTT 5.0, sections 2 and 3; numbers in network order.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from appliance.doors.mqtt_message import Message
from appliance.doors.mqtt_packet import decode_publish

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 12, 13, 14

WINDOW = 20
"""Mosquitto's Receive Maximum: with more QoS > 0 under way it puts the sender out."""


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
    return struct.pack("!H", len(raw)) + raw


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


class Publication(NamedTuple):
    """A message as somebody may publish it. With MQTT 3.1.1 the properties are left out.

    dup   as if it had been sent before; only with QoS 1 or 2
    more  further properties, encoded
    """

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    content_type: str | None = None
    user: Sequence[tuple[str, str]] = ()
    more: bytes = b""
    dup: bool = False

    def properties(self) -> bytes:
        told = bytearray(self.more)
        if self.response_topic is not None:
            told += b"\x08" + text(self.response_topic)
        if self.correlation is not None:
            told += b"\x09" + text(self.correlation)
        if self.expiry_s is not None:
            told += struct.pack("!BI", 0x02, self.expiry_s)
        if self.content_type is not None:
            told += b"\x03" + text(self.content_type)
        for name, value in self.user:
            told += b"\x26" + text(name) + text(value)
        return bytes(told)

    def body(self, mid: int, *, v5: bool = True) -> bytes:
        """What follows the fixed header."""
        number = struct.pack("!H", mid) if self.qos else b""
        properties = self.properties() if v5 else None
        told = varint(len(properties)) + properties if properties is not None else b""
        return text(self.topic) + number + told + self.payload

    def encoded(self, mid: int, *, v5: bool = True) -> bytes:
        return packet(PUBLISH, self.body(mid, v5=v5), self.dup << 3 | self.qos << 1 | self.retain)


class Cut(Exception):
    """The broker has closed the connection."""


class Wire:
    """A client that says what it is told to say. `heard` is in order of arrival."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, v5: bool
    ) -> None:
        self.heard: list[Message] = []
        self._reader, self._writer, self._v5 = reader, writer, v5
        self._window = asyncio.Semaphore(WINDOW)
        self._under_way: set[int] = set()
        self._news = asyncio.Event()
        self._ended = False
        self._mid = 0

    async def greet(self, identifier: str, *, will: str = "") -> None:
        """`will`: the topic on which the broker tells, without words, that we are gone."""
        level, told = (5, varint(0)) if self._v5 else (4, b"")
        flags = struct.pack("!BBH", level, 0x06 if will else 0x02, 0)
        testament = told + text(will) + text(b"") if will else b""
        self._writer.write(
            packet(CONNECT, text("MQTT") + flags + told + text(identifier) + testament)
        )
        kind, _, _ = await self._packet()
        assert kind == CONNACK

    async def subscribe(self, *filters: str) -> None:
        """With QoS 0. To be called before `listen`."""
        told = varint(0) if self._v5 else b""
        wanted = b"".join(text(each) + b"\0" for each in filters)
        self._writer.write(packet(SUBSCRIBE, b"\0\x01" + told + wanted, 2))
        kind, _, _ = await self._packet()
        assert kind == SUBACK

    async def publish(self, messages: Iterable[Publication]) -> None:
        """Return when the broker has answered for each with QoS 1 or 2. Raises Cut."""
        for message in messages:
            if not message.qos:
                self._writer.write(message.encoded(0, v5=self._v5))
                continue
            await self._window.acquire()
            if self._ended:
                raise Cut
            self._mid = self._mid % 65535 + 1
            self._under_way.add(self._mid)
            self._writer.write(message.encoded(self._mid, v5=self._v5))
        # QoS 0 is not answered, a ping is.
        self._under_way.add(0)
        self._writer.write(packet(PINGREQ, b""))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
        while self._under_way:
            if self._ended:
                raise Cut
            await self.hears_more()

    async def hears(self, topic: str, *, within_s: float = 20) -> Message:
        """The first message on this topic, heard already or to come."""
        seen = 0
        async with asyncio.timeout(within_s):
            while True:
                for message in self.heard[seen:]:
                    if message.topic == topic:
                        return message
                seen = len(self.heard)
                await self.hears_more()

    async def hears_more(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def listen(self) -> None:
        """Until the connection ends."""
        try:
            while True:
                kind, flags, body = await self._packet()
                match kind:
                    case 3:
                        self.heard.append(
                            decode_publish(PUBLISH << 4 | flags, body, is_v5=self._v5)
                        )
                    case 5:
                        self._writer.write(packet(PUBREL, body[:2], 2))
                    case 4 | 7:
                        self._under_way.discard(int.from_bytes(body[:2]))
                        self._window.release()
                    case 13:
                        self._under_way.discard(0)
                    case 14:
                        break
                self._news.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._ended = True
            self._news.set()
            self._window.release()

    async def _packet(self) -> tuple[int, int, bytes]:
        (first,) = await self._reader.readexactly(1)
        length = place = 0
        while True:
            (byte,) = await self._reader.readexactly(1)
            length |= (byte & 0x7F) << place
            place += 7
            if byte < 0x80:
                break
        return first >> 4, first & 0x0F, await self._reader.readexactly(length)


@contextlib.asynccontextmanager
async def wired(
    port: int, *, v5: bool = True, identifier: str = "", filters: tuple[str, ...] = ()
) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    wire = Wire(reader, writer, v5=v5)
    try:
        await wire.greet(identifier)
        if filters:
            await wire.subscribe(*filters)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(wire.listen())
            try:
                yield wire
            finally:
                with contextlib.suppress(ConnectionError):
                    writer.write(packet(DISCONNECT, b""))
                    await writer.drain()
                listening.cancel()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
