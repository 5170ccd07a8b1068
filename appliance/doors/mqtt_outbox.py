"""From the outbox to the broker: each answer until the broker has taken it.

What was not taken when a connection ended is published again on the next one,
in the same bytes. An answer that the broker refuses is told of on `errors` and
tried again later, ever more rarely; the ones after it do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from appliance.desk import Desk, Outgoing
from appliance.doors.mqtt_client import FAILURE, WINDOW, Connection, NotTaken
from appliance.doors.mqtt_message import DOOR, HOPS, Address, Properties, decode_address
from appliance.doors.mqtt_topics import Topics
from appliance.errors import StorageFailed

log = logging.getLogger(__name__)

BATCH = 64
RETRY_FIRST_S, RETRY_MOST_S = 60.0, 3600.0
ENVELOPE_BYTES = 4096
PACKET_TOO_LARGE = 0x95


class Outbox:
    """Delivers over one connection at a time. `ready` says that there may be news."""

    def __init__(self, desk: Desk, topics: Topics) -> None:
        self.ready = asyncio.Event()
        self._desk, self._topics = desk, topics

    async def deliver(self, connection: Connection) -> None:
        """Raises ConnectionEnded, and does not return before."""
        await Delivering(self._desk, self._topics, self.ready, connection).run()


class Delivering:
    """What has become of the answers on one connection.

    _under_way  numbers that the broker has not answered yet
    _taken      that it has taken, to be told to the desk
    _refused    that it has refused, to be tried again
    """

    def __init__(
        self, desk: Desk, topics: Topics, ready: asyncio.Event, connection: Connection
    ) -> None:
        self._desk, self._topics = desk, topics
        self._connection, self._ready = connection, ready
        self._under_way: set[int] = set()
        self._taken: list[int] = []
        self._refused: set[int] = set()
        self._retry_after_s = RETRY_FIRST_S
        self._answered = asyncio.Event()
        self._room = asyncio.Semaphore(WINDOW)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish(), name="mqtt answers")
            tasks.create_task(self._tell_desk(), name="mqtt answers taken")

    async def _publish(self) -> None:
        after = 0
        while True:
            self._ready.clear()
            waiting = await self._desk.outgoing(DOOR, after, BATCH)
            for outgoing in waiting:
                after = max(after, outgoing.number)
                await self._room.acquire()
                self._post(outgoing)
            if not waiting and await self._news_or_retry():
                after = min(self._refused, default=after + 1) - 1
                self._refused.clear()

    async def _news_or_retry(self) -> bool:
        """True when it is time to try what was refused again."""
        if not self._refused:
            await self._ready.wait()
            return False
        try:
            async with asyncio.timeout(self._retry_after_s):
                await self._ready.wait()
        except TimeoutError:
            self._retry_after_s = min(2 * self._retry_after_s, RETRY_MOST_S)
            return True
        return False

    def _post(self, outgoing: Outgoing) -> None:
        number = outgoing.number
        if number in self._under_way or number in self._taken:
            self._room.release()
            return
        address = decode_address(outgoing.reply_to)
        topic = address.topic or self._topics.response(outgoing.id)
        payload = echoed(outgoing.answer, address)
        self._under_way.add(number)
        if len(payload) + ENVELOPE_BYTES > self._connection.max_packet_bytes:
            # The broker would cut the connection, now and each time again.
            self._note(outgoing, topic, PACKET_TOO_LARGE)
            return
        taken = self._connection.post(
            topic, payload, properties=answer_properties(address, outgoing.hops)
        )
        taken.add_done_callback(lambda done: self._note(outgoing, topic, done.result()))

    def _note(self, outgoing: Outgoing, topic: str, code: int | None) -> None:
        self._room.release()
        self._under_way.discard(outgoing.number)
        if code is None:
            return
        if code < FAILURE:
            self._taken.append(outgoing.number)
            self._answered.set()
            return
        self._refused.add(outgoing.number)
        self._ready.set()  # so that it is waited for no longer than `_retry_after_s`
        refused = NotTaken(code)
        log.warning(
            "the broker does not take the answer of request %r on %s: %s; trying again in %.0f s",
            outgoing.id,
            topic,
            refused,
            self._retry_after_s,
        )
        told = error_notice(outgoing.id, topic, {"code": "not_taken", "message": str(refused)})
        self._connection.post(self._topics.errors, told, qos=0)

    async def _tell_desk(self) -> None:
        """Many at a time: what the broker takes during one commit goes into the next one."""
        while True:
            await self._answered.wait()
            self._answered.clear()
            taken, self._taken = self._taken, []
            settled, self._connection.settled = self._connection.settled, set()
            try:
                await self._desk.delivered(taken, settled_mids=sorted(settled))
            except StorageFailed as error:
                log.warning("delivered answers cannot be struck off: %s", error)
                self._taken += taken
                self._connection.settled |= settled
                self._answered.set()
                await asyncio.sleep(error.retry_after_s or RETRY_FIRST_S)


def answer_properties(address: Address, hops: int) -> Properties:
    return Properties(
        content_type="application/json",
        correlation=address.correlation,
        user=((HOPS, str(hops + 1)),),
    )


def echoed(answer: bytes, address: Address) -> bytes:
    """The answer, with the JSON's correlation as its last field."""
    if address.echo is None:
        return answer
    return answer[:-1] + b',"correlation":' + msgspec.json.encode(address.echo) + b"}"


def error_notice(id: str | None, topic: str, error: dict[str, object]) -> bytes:
    """For `errors`. Never the payload itself: prompts are private."""
    return msgspec.json.encode({"id": id, "topic": topic, "error": error})
