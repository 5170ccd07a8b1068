"""What a plug publishes on a real broker reaches its meter, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appliance.clock import SystemClock
from appliance.config import Mqtt
from appliance.doors.mqtt_feed import LARGEST_PACKET_BYTES, Feed
from drivers.errors import Unresponsive
from drivers.plug import PlugMeter
from tests.brokers import Mosquitto
from tests.senders import sender

TOPIC = "tele/box/SENSOR"
SAYS = b'{"ENERGY":{"Total":1.000,"Power":40}}'
both = pytest.mark.parametrize("version", ["5", "3.1.1"])


class Ear(PlugMeter):
    """A plug's meter that remembers what it was handed."""

    def __init__(self) -> None:
        super().__init__(TOPIC)
        self.heard: list[tuple[bytes, bool]] = []
        self.news = asyncio.Event()

    def take(self, payload: bytes, *, retained: bool = False) -> None:
        super().take(payload, retained=retained)
        self.heard.append((payload, retained))
        self.news.set()

    async def hears(self, count: int) -> list[tuple[bytes, bool]]:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()
        return self.heard


@asynccontextmanager
async def listening(
    port: int, ear: Ear, *, retained: bool = False, **config: Any
) -> AsyncIterator[asyncio.Event]:
    """From when it hears everything. The event is set each time that this is so again."""
    ready = asyncio.Event()
    quick = {"retry_min_s": 0.05, "retry_max_s": 0.3, "keep_alive_s": 5}
    feed = Feed(
        Mqtt(port=port, **{**quick, **config}),
        name="home",
        of="plug",
        listener=ear,
        clock=SystemClock(),
        retained=retained,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(feed.run(ready.set))
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield ready
        finally:
            task.cancel()


@both
async def test_what_the_plug_says(broker: Mosquitto, version: str) -> None:
    """Becomes a reading; what others publish does not."""
    ear = Ear()
    async with listening(broker.port, ear, version=version), sender(broker.port) as someone:
        await someone.publish("tele/other/SENSOR", b"{}")
        await someone.publish(TOPIC, SAYS, qos=0)

        assert await ear.hears(1) == [(SAYS, False)]
    assert ear.sample().energy_j == 0.0


@both
async def test_what_the_broker_kept(broker: Mosquitto, version: str) -> None:
    """Is no reading: nobody knows from when it is. What comes while we listen is one."""
    ear = Ear()
    async with sender(broker.port) as someone:
        await someone.publish(TOPIC, SAYS, retain=True)
        async with listening(broker.port, ear, version=version):
            with pytest.raises(Unresponsive):
                ear.sample()
            await someone.publish(TOPIC, b"last", retain=True)
            heard = await ear.hears(1 if version == "5" else 2)

    assert heard[-1] == (b"last", False)
    assert all(retained for _, retained in heard[:-1])


@both
async def test_what_holds_until_another_comes(broker: Mosquitto, version: str) -> None:
    """A price is heard though it was published before: where that is wanted."""
    ear = Ear()
    async with sender(broker.port) as someone:
        await someone.publish(TOPIC, b"0.21", retain=True)
        async with listening(broker.port, ear, retained=True, version=version):
            assert await ear.hears(1) == [(b"0.21", True)]


@both
async def test_nothing_is_kept_for_us(broker: Mosquitto, version: str) -> None:
    """What was published while we were away is not heard later, as if it were of now."""
    ear = Ear()
    async with sender(broker.port) as someone:
        async with listening(broker.port, ear, version=version):
            pass
        await someone.publish(TOPIC, b"missed", qos=1)
        async with listening(broker.port, ear, version=version):
            await someone.publish(TOPIC, SAYS, qos=1)

            assert await ear.hears(1) == [(SAYS, False)]


async def test_a_broker_that_goes_and_comes(broker: Mosquitto) -> None:
    """It listens again, by itself."""
    ear = Ear()
    async with listening(broker.port, ear) as ready:
        ready.clear()
        broker.stop()
        broker.start()
        async with asyncio.timeout(10):
            await ready.wait()
        async with sender(broker.port) as someone:
            await someone.publish(TOPIC, SAYS)

            assert await ear.hears(1) == [(SAYS, False)]


async def test_more_than_a_plug_says(broker: Mosquitto) -> None:
    """The broker keeps it from us, or it is a bad reading; the next one is heard."""
    ear = Ear()
    async with listening(broker.port, ear), sender(broker.port) as someone:
        await someone.publish(TOPIC, b"x" * (LARGEST_PACKET_BYTES + 1))
        await someone.publish(TOPIC, SAYS)

        assert (await ear.hears(1))[-1] == (SAYS, False)


async def test_thousands_of_messages(broker: Mosquitto) -> None:
    """More than may be in work at once: each makes room for the next."""
    ear = Ear()
    async with listening(broker.port, ear), sender(broker.port) as someone:
        for _ in range(1000):
            await someone.publish(TOPIC, SAYS, qos=0)

        assert len(await ear.hears(1000)) == 1000
