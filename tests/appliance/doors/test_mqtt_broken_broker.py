"""A broker that sends what is no MQTT: it is left, tried again, and told of in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.fakes.mqtt_desk import MqttDesk
from tests.mqtt_wire import CONNACK, CONNECT, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, packet, text


class BrokenBroker:
    """Greets each client and takes what it publishes. The first one is then sent `garbage`.

    granted  answers to the first client's subscriptions; there are four
    """

    def __init__(self, garbage: bytes, granted: bytes) -> None:
        self.port = 0
        self.clients = 0
        self.online = asyncio.Event()
        """A later client has come as far as to say so."""
        self._garbage, self._granted = garbage, granted

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        is_first = self.clients == 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, flags, body = await _packet(reader)
                match kind:
                    case 1:
                        writer.write(packet(CONNACK, b"\0\0\0"))
                    case 8:
                        granted = self._granted if is_first else b"\1" * 4
                        writer.write(packet(SUBACK, body[:2] + b"\0" + granted))
                        if is_first:
                            writer.write(self._garbage)
                    case 3:
                        length = int.from_bytes(body[:2])
                        if flags & 6:
                            writer.write(packet(PUBACK, body[2 + length : 4 + length]))
                        if not is_first and b"online" in body:
                            self.online.set()
        writer.close()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    (first,) = await reader.readexactly(1)
    length = place = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << place
        place += 7
        if byte < 0x80:
            return first >> 4, first & 15, await reader.readexactly(length)


@asynccontextmanager
async def broken(garbage: bytes, granted: bytes = b"\1\1\1\1") -> AsyncIterator[BrokenBroker]:
    broker = BrokenBroker(garbage, granted)
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(packet(PUBLISH, b""), id="empty"),
        pytest.param(packet(PUBLISH, b"\0\x40t"), id="topic cut off"),
        pytest.param(packet(PUBLISH, text("t") + b"\0\0\0", 2), id="number 0"),
        pytest.param(packet(PUBLISH, text("t") + b"\0\1\0", 4), id="QoS 2"),
        pytest.param(packet(PUBLISH, text("t") + b"\0\1\0", 6), id="QoS 3"),
        pytest.param(packet(PUBACK, b""), id="empty PUBACK"),
        pytest.param(packet(SUBACK, b""), id="empty SUBACK"),
        pytest.param(packet(SUBACK, b"\0\1\0\xee"), id="SUBACK with an unknown code"),
        pytest.param(packet(CONNACK, b"\0"), id="half a CONNACK"),
        pytest.param(packet(14, b"\xee\0"), id="DISCONNECT with an unknown code"),
        pytest.param(packet(6, b"\0"), id="half a PUBREL"),
        pytest.param(packet(CONNECT, b""), id="CONNECT"),
        pytest.param(packet(SUBSCRIBE, b""), id="SUBSCRIBE"),
        pytest.param(packet(15, b""), id="AUTH"),
        pytest.param(b"\x30" + b"\xff" * 5, id="a length without end"),
    ],
)
async def test_a_broker_that_sends_garbage_is_left(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """And found again: nothing ends, nothing is stuck, nothing is raised into the loop."""
    caplog.set_level(logging.INFO)
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    desk = MqttDesk()
    async with broken(garbage) as broker, serving(door(broker.port, desk)) as task:
        async with asyncio.timeout(10):
            await broker.online.wait()
        assert not task.done()

    assert not raised
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "the broker" in caplog.text


@pytest.mark.parametrize("granted", [b"", b"\1\1\1", b"\1" * 5])
async def test_a_broker_that_cannot_count_is_left(
    granted: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers to fewer or more subscriptions than there are."""
    async with broken(b"", granted) as broker, serving(door(broker.port, MqttDesk())) as task:
        async with asyncio.timeout(10):
            await broker.online.wait()
        assert not task.done()

    assert "to 4 subscriptions" in caplog.text or not granted


async def test_a_message_that_cannot_be_read_is_refused_and_acknowledged() -> None:
    """By a broker that does not check what it passes on."""
    desk = MqttDesk()
    garbled = text(f"{BASE}/request") + b"\0\x07" + b"\x05\x08" + text("\ud800")
    async with broken(packet(PUBLISH, garbled, 2)) as broker, serving(door(broker.port, desk)):
        async with asyncio.timeout(10):
            while not desk.refusals:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
    assert broker.clients == 1
