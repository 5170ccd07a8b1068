"""The doors, as the configuration names them, and what is heard through them.

Part of the composition root, beside `app`. A door is imported where it is opened: one
that is off costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from appliance.clock import Clock
from appliance.config import Config
from appliance.desk import Desk
from appliance.energy.metering import plugs
from appliance.power.good_hours import Signal
from drivers.meters import Meters

if TYPE_CHECKING:
    from appliance.doors.mqtt_feed import Feed, Listener


async def open_doors(
    config: Config, desk: Desk, clock: Clock, doors: asyncio.TaskGroup
) -> list[asyncio.Task[None]]:
    """Start each door that is configured. Returns once clients can connect to those of ours.

    Raises ConfigError for what cannot be used; an address that cannot, out of `doors`.
    """
    from appliance.doors.socket import SocketDoor

    listening, answering = asyncio.Event(), asyncio.Event()
    limit_bytes = config.inbox.max_request_bytes
    socket = SocketDoor(
        path=config.socket_path,
        mode=int(config.socket.mode, 8),
        group=config.socket.group,
        desk=desk,
        max_request_bytes=limit_bytes,
    )
    tasks = [doors.create_task(socket.run(listening.set), name="socket door")]
    if config.mqtt.enabled:
        from appliance.doors.mqtt import MqttDoor

        mqtt = MqttDoor(
            config.mqtt,
            name=config.name,
            base=config.mqtt_base,
            desk=desk,
            max_request_bytes=limit_bytes,
            clock=clock,
            version=version("wattnap"),
        )
        tasks.append(doors.create_task(mqtt.run(), name="mqtt door"))
    if config.http.listen:
        from appliance.doors.http import HttpDoor

        http = HttpDoor(config.http, desk=desk, clock=clock, max_request_bytes=limit_bytes)
        tasks.append(doors.create_task(http.run(answering.set), name="http door"))
        await answering.wait()
    await listening.wait()
    return tasks


def feeds(
    config: Config, meters: Meters | None, signal: Signal | None, clock: Clock
) -> Iterator[Feed]:
    """What others publish: plugs, and what says whether the hour is good."""
    heard: list[tuple[str, Listener, bool]] = [("plug", plug, False) for plug in plugs(meters)]
    heard += [("hour", signal, True)] if signal else []
    for of, listener, retained in heard:
        from appliance.doors.mqtt_feed import Feed

        yield Feed(
            config.mqtt, name=config.name, of=of, listener=listener, clock=clock, retained=retained
        )


def places(config: Config) -> str:
    """Where the doors are, for the log."""
    mqtt = f"{config.mqtt.host}:{config.mqtt.port}" if config.mqtt.enabled else "off"
    return f"socket {config.socket_path}, MQTT {mqtt}, HTTP {config.http.address or 'off'}"
