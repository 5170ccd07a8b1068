"""Listens to what others publish: each message under one topic goes to one listener.

A smart plug's readings to its meter, a price to what decides by it. A connection of its
own, without a session, so that nothing is ever kept for us: a reading that comes late
would be taken for one of now. It publishes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance import cancellation
from appliance.clock import Clock
from appliance.config import Mqtt
from appliance.doors.mqtt_client import Connection, ConnectionEnded, connected
from appliance.doors.mqtt_message import Message
from appliance.doors.mqtt_paho import Terms
from appliance.doors.mqtt_retry import Outage
from appliance.doors.mqtt_terms import terms

LARGEST_PACKET_BYTES = 64 * 1024
"""The broker drops what is larger, which no sensor sends."""


class Listener(Protocol):
    """Takes what is said. It may not raise."""

    topic: str

    def take(self, payload: bytes, *, retained: bool = False) -> None: ...


class Feed:
    """Hands `listener` all that is published under its topic, for as long as `run` runs.

    name, of  make the client identifier: the appliance's name, and whose words they are
    retained  also what the broker had kept before we came
    """

    def __init__(
        self,
        config: Mqtt,
        *,
        name: str,
        of: str,
        listener: Listener,
        clock: Clock,
        retained: bool = False,
    ) -> None:
        self._config, self._listener, self._clock = config, listener, clock
        self._retained = retained
        self._identifier = f"wattnap-{name}-{of}"
        self._outage = Outage(
            f"{config.host}:{config.port}, for the {of}",
            config.retry_min_s,
            config.retry_max_s,
            short_lived=f"does another appliance call itself {self._identifier}?",
            meanwhile=f"nothing is heard from {listener.topic}",
        )

    async def run(self, listening: Callable[[], None] = lambda: None) -> None:
        """Until cancelled. A broker that is away, wrong or hostile never ends it.

        Calls `listening` each time that from then on it hears everything.
        """
        while True:
            ended, up_s = ConnectionEnded(""), None
            try:
                async with connected(self._terms(), self._take) as connection:
                    up_s = self._clock.now()
                    await connection.subscribe(
                        (self._listener.topic,), news_only=True, kept_too=self._retained
                    )
                    self._outage.connected(up_s)
                    listening()
                    await connection.raise_when_ended()
            except ConnectionEnded as error:
                ended = error
            cancellation.heed()  # of the two that came at once, only the end was heard
            now_s = self._clock.now()
            lasted_s = 0.0 if up_s is None else now_s - up_s
            pause_s = self._outage.failed(str(ended), now_s, lasted_s=lasted_s)
            await self._clock.sleep_until(now_s + pause_s)

    def _take(self, connection: Connection, message: Message) -> None:
        connection.finished(message)
        self._listener.take(message.payload, retained=message.retained)

    def _terms(self) -> Terms:
        return terms(
            self._config,
            identifier=self._identifier,
            session_expiry_s=0,
            max_packet_bytes=LARGEST_PACKET_BYTES,
        )
