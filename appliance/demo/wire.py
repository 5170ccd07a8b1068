"""The demo as a client: publishes prompts and hears all that the appliance tells.

What it does, any MQTT client can do; the topics are those of docs/mqtt.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiomqtt
import msgspec
from msgspec import Struct

from appliance import cancellation
from appliance.demo.mosquitto import Broker
from appliance.errors import CommandError

Told = dict[str, Any]  # JSON, docs/mqtt.md


class Heard(Struct, frozen=True):
    """One message of the appliance. `id`: of the request that it is about."""

    kind: Literal["availability", "state", "status", "part", "answer", "error"]
    id: str | None
    told: Told


class WireLost(CommandError):
    """The demo's own broker does not answer any more."""

    code = "demo_wire"


class Wire:
    """Made by `connected`."""

    def __init__(self, client: aiomqtt.Client, base: str) -> None:
        self._client, self._base = client, base

    async def publish(self, id: str, prompt: str, max_tokens: int) -> str:
        """Ask for an answer in parts. Returns the topic it was published on."""
        body = {"prompt": prompt, "max_tokens": max_tokens, "stream": True}
        topic = f"{self._base}/request/main/{id}"
        await self._client.publish(topic, msgspec.json.encode(body), qos=1)
        cancellation.heed()
        return topic

    async def heard(self) -> Heard:
        """The next message. Raises WireLost."""
        try:
            async for message in self._client.messages:
                return self._understand(message.topic.value, bytes(message.payload))
        except aiomqtt.MqttError as error:
            raise WireLost(f"the demo's broker is gone: {error}") from error
        raise AssertionError("messages end with an error")

    def _understand(self, topic: str, payload: bytes) -> Heard:
        told = {} if topic.endswith("/availability") else msgspec.json.decode(payload)
        match topic.removeprefix(f"{self._base}/").split("/"):
            case ["availability"]:
                return Heard("availability", None, {"word": payload.decode()})
            case ["state"]:
                return Heard("state", None, told)
            case ["status", id]:
                return Heard("status", id, told)
            case ["response", id, "part"]:
                return Heard("part", id, told)
            case ["response", id]:
                return Heard("answer", id, told)
        return Heard("error", None, told)


@asynccontextmanager
async def connected(broker: Broker, base: str) -> AsyncIterator[Wire]:
    """Raises WireLost if the broker does not take us."""
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        protocol=aiomqtt.ProtocolVersion.V5,
    )
    try:
        async with client:
            for heard in ("availability", "state", "status/+", "response/#", "errors"):
                await client.subscribe(f"{base}/{heard}", qos=1)
                cancellation.heed()
            yield Wire(client, base)
    except aiomqtt.MqttError as error:
        raise WireLost(f"the demo's broker: {error}") from error
