"""The MQTT door: prompts come in as messages, answers go out of the outbox (docs/mqtt.md).

A message is acknowledged to the broker after the desk has committed it, or after its
refusal has been told, and only on the connection that brought it. Whatever dies, then,
either the broker still has the message or the desk has. A broker that is away, wrong
or hostile never ends the daemon.

What is done with a message: mqtt_reception. Answers: mqtt_outbox. The rest of what
is published: mqtt_news. Below them is one connection, mqtt_client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from appliance import cancellation
from appliance.clock import Clock
from appliance.config import Mqtt
from appliance.desk import Desk
from appliance.doors.mqtt_client import (
    BAD_CREDENTIALS,
    NOT_AUTHORIZED,
    SESSION_TAKEN_OVER,
    Connection,
    ConnectionEnded,
    connected,
)
from appliance.doors.mqtt_message import Message
from appliance.doors.mqtt_news import News
from appliance.doors.mqtt_outbox import Outbox
from appliance.doors.mqtt_paho import Terms
from appliance.doors.mqtt_reception import Reception
from appliance.doors.mqtt_retry import Outage
from appliance.doors.mqtt_sending import NotTaken
from appliance.doors.mqtt_terms import terms
from appliance.doors.mqtt_topics import Topics
from appliance.errors import StorageFailed

log = logging.getLogger(__name__)

LARGEST_PACKET_BYTES = 16 * 1024 * 1024
"""Of what the broker may send. It drops more without a word; up to there the sender is told."""

FAREWELL_S = 1.5


class MqttDoor:
    """Serves the broker of `config` for as long as `run` runs.

    name  makes the client identifier: two appliances on one broker need two
    base  topic prefix

    Raises ConfigError for topics that MQTT does not allow.
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
        self._config, self._desk, self._clock = config, desk, clock
        self._identifier = f"wattnap-{name}"
        self._max_packet_bytes = max(LARGEST_PACKET_BYTES, 2 * max_request_bytes)
        self._topics = Topics(base, config.response_topics)
        self._reception = Reception(desk, self._topics, max_request_bytes)
        self._outbox = Outbox(desk, self._topics, clock)
        self._news = News(desk, self._topics, self._outbox.ready, version)
        self._two_of_a_name = (
            f"does another appliance call itself {self._identifier}? Give one another `name`"
        )
        self._outage = Outage(
            f"{config.host}:{config.port}",
            config.retry_min_s,
            config.retry_max_s,
            # Mosquitto 2.0 does not say that a session was taken over: it only closes.
            short_lived=self._two_of_a_name,
        )
        self._taking: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled. Calls `ready` once, when it has connected or could not.

        Cancelled, it lets the desk finish what it is accepting, publishes
        "offline" and disconnects, all within 2 s.
        """
        self._tell_ready: Callable[[], None] | None = ready
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                pause_s = await self._one_connection()
                self._ready()
                await self._clock.sleep_until(self._clock.now() + pause_s)

    async def _one_connection(self) -> float:
        """Connect and serve until it ends. Returns the seconds to stay away."""
        ended, up_s = ConnectionEnded(""), None
        try:
            with self._news.listening() as news:
                async with connected(self._terms(), self._take) as connection:
                    up_s = self._clock.now()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(connection.raise_when_ended(), name="mqtt end")
                        try:
                            await self._greet(connection)
                            tasks.create_task(self._outbox.deliver(connection), name="mqtt outbox")
                            tasks.create_task(self._news.tell(connection, news), name="mqtt news")
                            tasks.create_task(self._news.show(connection), name="mqtt state")
                            await asyncio.Event().wait()
                        except asyncio.CancelledError:
                            if not connection.ended.done():
                                await self._take_leave(connection)
                            raise
        except* ConnectionEnded as group:
            ended = _first(group)
        cancellation.heed()  # of the two that came at once, only the end was heard
        now_s = self._clock.now()
        return self._outage.failed(
            self._explain(ended),
            now_s,
            lasted_s=0.0 if up_s is None else now_s - up_s,
            at_most=ended.code == SESSION_TAKEN_OVER,
        )

    async def _greet(self, connection: Connection) -> None:
        """Raises ConnectionEnded."""
        if not connection.session_present:
            try:
                await self._desk.session_lost()
            except StorageFailed as error:
                raise ConnectionEnded(str(error)) from error
        # Also into a session that is there: we may have died before we subscribed.
        await connection.subscribe(self._topics.inputs)
        await self._say(connection, b"online")
        self._outage.connected(self._clock.now())
        self._ready()

    async def _take_leave(self, connection: Connection) -> None:
        """Within FAREWELL_S; else the will says it."""
        self._stopping = True
        with contextlib.suppress(TimeoutError, ConnectionEnded):
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
        if self._stopping:
            return  # the broker keeps it
        task = self._tasks.create_task(self._reception.take(connection, message))
        # They outlive their connection: what the desk is accepting, it may finish.
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def _ready(self) -> None:
        if self._tell_ready is not None:
            self._tell_ready()
            self._tell_ready = None

    def _terms(self) -> Terms:
        """Raises ConnectionEnded for a file that cannot be read."""
        return terms(
            self._config,
            identifier=self._identifier,
            session_expiry_s=self._config.session_expiry_s,
            max_packet_bytes=self._max_packet_bytes,
            will=(self._topics.availability, b"offline"),
        )

    def _explain(self, ended: ConnectionEnded) -> str:
        match ended.code:
            case code if code in {BAD_CREDENTIALS, NOT_AUTHORIZED}:
                return (
                    f"{ended}; see mqtt.username and mqtt.password_file here,"
                    " and the broker's access list"
                )
            case code if code == SESSION_TAKEN_OVER:
                return f"{ended}; {self._two_of_a_name}"
        return str(ended)


def _first(group: BaseExceptionGroup[ConnectionEnded]) -> ConnectionEnded:
    """Several tasks may have noticed the same end."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConnectionEnded)
    return error
