"""Someone at the other end of the broker: publishes prompts, and keeps what it hears."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from appliance import cancellation


class Sender:
    """Hears `wattnap/#` and `x/#`, with QoS 1. `heard` is in order of arrival."""

    def __init__(self, client: aiomqtt.Client, *, v5: bool) -> None:
        self._client, self._v5 = client, v5
        self.heard: list[aiomqtt.Message] = []
        self._news = asyncio.Event()

    async def publish(
        self,
        topic: str,
        payload: str | bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        **more: Any,
    ) -> None:
        """`more`: MQTT 5's properties, by their names in paho."""
        properties = None
        if more:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in more.items():
                setattr(properties, name, value)
        await self._client.publish(topic, payload, qos, retain, properties)
        cancellation.heed()

    async def hears(
        self, wanted: str | Callable[[aiomqtt.Message], bool], *, within_s: float = 10
    ) -> aiomqtt.Message:
        """The first message on this topic, heard already or to come."""
        matches = wanted if callable(wanted) else lambda m: str(m.topic) == wanted
        seen = 0
        async with asyncio.timeout(within_s):
            while True:
                for message in self.heard[seen:]:
                    if matches(message):
                        return message
                seen = len(self.heard)
                await self._more(seen)

    async def hears_json(self, wanted: str, **how: Any) -> dict[str, Any]:
        return dict(json.loads((await self.hears(wanted, **how)).payload))

    async def hears_all(self, count: int, prefix: str, *, within_s: float = 20) -> list[str]:
        """Topics below `prefix`, once there are as many different ones as that."""
        async with asyncio.timeout(within_s):
            while len(set(self.topics(prefix))) < count:
                # A burst at a time: this looks at all of them again.
                await self._more(
                    len(self.heard) + min(20, count - len(set(self.topics(prefix)))) - 1
                )
        return self.topics(prefix)

    async def _more(self, than: int) -> None:
        while len(self.heard) <= than:
            self._news.clear()
            await self._news.wait()

    async def hears_times(self, topic: str, times: int) -> None:
        """Return when so many messages have come on `topic`."""
        await self.hears(lambda _: self.topics().count(topic) >= times)

    def topics(self, prefix: str = "") -> list[str]:
        return [t for m in self.heard if (t := str(m.topic)).startswith(prefix)]

    async def hears_properties(self, wanted: str) -> Any:  # paho's, with MQTT's names
        """Of the first message on this topic."""
        return (await self.hears(wanted)).properties

    async def listen(self) -> None:
        async for message in self._client.messages:
            self.heard.append(message)
            self._news.set()


@asynccontextmanager
async def sender(
    port: int,
    *,
    v5: bool = True,
    name: str | None = None,
    filters: tuple[str, ...] = ("wattnap/#", "x/#"),
) -> AsyncIterator[Sender]:
    """`name`: with a session that outlives the connection."""
    properties = None
    if v5 and name:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
    client = aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=name,
        protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
        clean_session=None if v5 else name is None,
        clean_start=(name is None) if v5 else MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client.pending_calls_threshold = 1_000_000
    async with client:
        someone = Sender(client, v5=v5)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(someone.listen())
            await client.subscribe([(each, 1) for each in filters])
            try:
                yield someone
            finally:
                listening.cancel()
