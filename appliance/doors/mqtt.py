"""The MQTT door: prompts come in as messages, answers go out of the outbox (docs/mqtt.md).

A message is acknowledged to the broker after the desk has committed it, or after its
refusal has been told, and only on the connection that brought it. Everything else
follows from that: whatever dies, the broker still has the message, or the desk has.
A broker that is away, wrong or hostile never ends the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from appliance.clock import Clock
from appliance.config import Mqtt
from appliance.desk import Delivery, Desk
from appliance.doors.mqtt_client import (
    BAD_CREDENTIALS,
    NOT_AUTHORIZED,
    SESSION_TAKEN_OVER,
    Connection,
    ConnectionEnded,
    NotTaken,
    connected,
)
from appliance.doors.mqtt_message import (
    DOOR,
    Caller,
    Message,
    caller_of,
    client_of,
    encode_address,
    understand,
)
from appliance.doors.mqtt_news import News, progress_json
from appliance.doors.mqtt_outbox import Outbox, answer_properties, echoed, error_notice
from appliance.doors.mqtt_paho import Terms
from appliance.doors.mqtt_retry import Outage
from appliance.doors.mqtt_topics import Asked, Topics
from appliance.errors import ApplianceError, BadRequest, Interrupted, Loop
from appliance.notices import Progress

log = logging.getLogger(__name__)

LARGEST_PACKET_BYTES = 16 * 1024 * 1024
"""Of what a broker may send; it drops more without a word. Up to there the sender is told."""

FAREWELL_S = 1.5
MAX_TELLING = 256
MAX_REMEMBERED = 256


class _Wake(Struct, frozen=True, forbid_unknown_fields=True):
    keep_warm_s: Annotated[float, Meta(ge=0, le=7 * 86400)] = 0.0


class _Rest(Struct, frozen=True, forbid_unknown_fields=True):
    depth: str | None = None


class MqttDoor:
    """Serves the broker of `config` for as long as `run` runs.

    `base` is the topic prefix; `name` makes the client identifier, so that two
    appliances on one broker need two names.
    """

    def __init__(
        self,
        config: Mqtt,
        *,
        name: str,
        base: str,
        desk: Desk,
        max_request_bytes: int,
        clock: Clock,
        version: str,
    ) -> None:
        self._config, self._name, self._desk, self._clock = config, name, desk, clock
        self._limit_bytes = max_request_bytes
        self._topics = Topics(base, config.response_topics)
        self._outbox = Outbox(desk, self._topics)
        self._news = News(desk, self._topics, self._outbox.ready, version)
        self._outage = Outage(
            f"{config.host}:{config.port}", config.retry_min_s, config.retry_max_s
        )
        self._taking: set[asyncio.Task[None]] = set()
        self._telling = 0
        self._stopping = False
        self._retained_told: dict[bytes, None] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled. Calls `ready` when it has connected, or could not.

        Cancelled, it lets the desk finish what it is accepting, publishes
        "offline" and disconnects, all within 2 s.
        """
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                pause_s = await self._one_connection(ready)
                ready()
                await self._clock.sleep_until(self._clock.now() + pause_s)

    async def _one_connection(self, ready: Callable[[], None]) -> float:
        """Connect and serve until it ends; how long to wait before the next one."""
        up_s: float | None = None
        ended = ConnectionEnded("")
        try:
            with self._news.listening() as news:
                async with connected(self._terms(), self._take) as connection:
                    up_s = self._clock.now()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(connection.raise_when_ended(), name="mqtt end")
                        try:
                            await self._greet(connection)
                            ready()
                            tasks.create_task(self._outbox.deliver(connection))
                            tasks.create_task(self._news.tell(connection, news))
                            tasks.create_task(self._news.show(connection))
                            await asyncio.Event().wait()
                        except asyncio.CancelledError:
                            await self._take_leave(connection)
                            raise
        except* ConnectionEnded as group:
            ended = _first(group)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # It ended in the same moment, and the group reported that instead.
            raise asyncio.CancelledError
        now_s = self._clock.now()
        return self._outage.failed(
            self._explain(ended),
            now_s,
            lasted_s=now_s - up_s if up_s is not None else 0.0,
            at_most=ended.code == SESSION_TAKEN_OVER,
        )

    async def _greet(self, connection: Connection) -> None:
        if not connection.session_present:
            await self._desk.session_lost()
        # Also where the session is there: we may have died before we subscribed.
        await connection.subscribe(self._topics.inputs)
        await self._say(connection, b"online")
        self._outage.connected(self._clock.now())

    async def _take_leave(self, connection: Connection) -> None:
        self._stopping = True
        with contextlib.suppress(TimeoutError, ConnectionEnded):  # then the will says it
            async with asyncio.timeout(FAREWELL_S):
                if self._taking:
                    await asyncio.wait(self._taking)
                await self._say(connection, b"offline")
                await connection.disconnect()

    async def _say(self, connection: Connection, word: bytes) -> None:
        try:
            await connection.publish(self._topics.availability, word, retain=True)
        except NotTaken as error:
            log.warning("the broker does not take %s: %s", self._topics.availability, error)

    def _take(self, connection: Connection, message: Message) -> None:
        if not self._stopping:  # else the broker keeps it
            task = self._tasks.create_task(self._handle(connection, message))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    async def _handle(self, connection: Connection, message: Message) -> None:
        asked: Asked | None = None
        try:
            try:
                asked = self._topics.understand(message.topic)
                self._check(message)
                await self._do(connection, message, asked)
            except Interrupted:
                return  # not acknowledged: the broker keeps it for the next start
            except ApplianceError as error:
                caller = caller_of(message, asked, self._topics)
                if message.retained and not self._is_new(message):
                    caller = None
                else:
                    await self._desk.refused(DOOR, caller.client, caller.id, error)
        finally:
            connection.finished(message)
