"""What one connection has sent and the broker has not yet answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct
from paho.mqtt import client as paho

from appliance.doors.mqtt_message import Properties
from appliance.doors.mqtt_paho import paho_properties

WINDOW = 64
"""Publishes under way at once; fewer if the broker says so."""

MAX_UNSENT_BYTES = 256 * 1024
FAILURE = 0x80

REFUSALS = {
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x90: "topic name invalid",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}
"""MQTT 5.0, 3.4.2.1, and one that a broker announces instead (3.2.2.3.6)."""


class NotTaken(Exception):
    """The broker answered a publish with no; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{REFUSALS.get(code, 'refused')} (0x{code:02x})")
        self.code = code


class _UnderWay(Struct, frozen=True):
    """A publish. `settles`: messages that we had acknowledged before it."""

    topic: str
    taken: asyncio.Future[int | None]
    settles: set[int]


class Sending:
    """Publishes over `client`, in order. `give_up` is called if the broker takes nothing.

    settled  numbers of messages whose acknowledgement it has certainly handled
    refusal  what it refused last, in words; empty: nothing
    """

    def __init__(
        self, client: paho.Client, *, timeout_s: float, give_up: Callable[[str], None]
    ) -> None:
        self.settled: set[int] = set()
        self.refusal = ""
        self._paho, self._timeout_s, self._give_up = client, timeout_s, give_up
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[int, _UnderWay] = {}
        self._acknowledged: set[int] = set()
        self._unsent_bytes = 0
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._watch: asyncio.TimerHandle | None = None
        self._last_taken_s = 0.0
        self._has_ended = False

    def post(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None
    ) -> asyncio.Future[int | None]:
        """The broker's reason code; None if the connection ended before it answered."""
        taken: asyncio.Future[int | None] = self._loop.create_future()
        if self._has_ended:
            taken.set_result(None)
            return taken
        is_v5 = self._paho.protocol == paho.MQTTv5
        told = paho_properties(properties) if properties and is_v5 else None
        info = self._paho.publish(topic, payload, qos, retain, told)
        self._unsent_bytes += len(payload) + len(topic) + 64
        if qos == 0:
            taken.set_result(0)
        else:
            self._expect(info.mid, topic, taken)
        self._note_room()
        return taken

    async def room(self) -> None:
        """Return when little is under way."""
        await self._roomy.wait()

    def acknowledge(self, mid: int) -> None:
        self._paho.ack(mid, 1)
        self._acknowledged.add(mid)

    def forget(self, mid: int) -> None:
        """The broker has given this number to another message."""
        self._acknowledged.discard(mid)
        self.settled.discard(mid)

    def note_answer(self, mid: int, code: int) -> None:
        """From the broker; QoS 0 has none, and paho tells of it all the same."""
        sent = self._under_way.pop(mid, None)
        if sent is None:
            return
        self._last_taken_s = self._loop.time()
        self.settled |= sent.settles
        if code >= FAILURE:
            self.refusal = f"{sent.topic}: {NotTaken(code)}"
        if not sent.taken.done():  # nobody may wait for it any more
            sent.taken.set_result(code)
        self._note_room()

    def note_drained(self) -> None:
        """Everything has been handed to the system."""
        self._unsent_bytes = 0
        self._note_room()

    def end(self) -> None:
        """What is under way is not answered any more. Idempotent."""
        self._has_ended = True
        if self._watch is not None:
            self._watch.cancel()
        for sent in self._under_way.values():
            if not sent.taken.done():
                sent.taken.set_result(None)
        self._under_way.clear()
        self._roomy.set()

    def _expect(self, mid: int, topic: str, taken: asyncio.Future[int | None]) -> None:
        if not self._under_way:
            self._last_taken_s = self._loop.time()
        settles, self._acknowledged = self._acknowledged, set()
        self._under_way[mid] = _UnderWay(topic, taken, settles)
        if self._watch is None:
            self._watch_answers()

    def _note_room(self) -> None:
        if self._unsent_bytes > MAX_UNSENT_BYTES or len(self._under_way) > 4 * WINDOW:
            self._roomy.clear()
        else:
            self._roomy.set()

    def _watch_answers(self) -> None:
        """paho itself would wait for two pings."""
        self._watch = None
        if not self._under_way:
            return
        left_s = self._last_taken_s + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._give_up(f"the broker has taken nothing for {self._timeout_s:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._watch_answers)
