"""From the outbox to the broker: each answer until the broker has taken it.

What was under way when a connection ended is published again on the next one, in
the same bytes, and one by one: a broker may have cut us over one of them, and the
others must not wait for it. An answer that the broker refuses, or cuts us over, is
tried again ever more rarely. One whose address cannot be read goes nowhere, and is
struck off.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from appliance.clock import Clock
from appliance.desk import Desk, Outgoing
from appliance.doors.mqtt_client import Connection
from appliance.doors.mqtt_message import DOOR, HOPS, Address, Properties, decode_address
from appliance.doors.mqtt_sending import FAILURE, WINDOW, NotTaken
from appliance.doors.mqtt_topics import MAX_TOPIC_BYTES, Topics, find_problem
from appliance.errors import StorageFailed

log = logging.getLogger(__name__)

BATCH = 64
RETRY_FIRST_S, RETRY_MOST_S = 60.0, 3600.0
ENVELOPE_BYTES = 4096
PACKET_TOO_LARGE = 0x95


class Unreadable(Exception):
    """There is no telling where an answer is to go."""


class Outbox:
    """What is remembered from one connection to the next. `ready`: there may be news."""

    def __init__(self, desk: Desk, topics: Topics, clock: Clock) -> None:
        self.ready = asyncio.Event()
        self.desk, self.topics, self.clock = desk, topics, clock
        self.suspects: set[int] = set()
        """Under way when a connection ended: to be published alone."""
        self.untold: list[bytes] = []
        """For `errors`: the connection ended before they were heard. Said once more."""
        self._retries: dict[int, tuple[float, float]] = {}
        """Refused: when to try again, and the pause that led there."""

    async def deliver(self, connection: Connection) -> None:
        """Runs until cancelled."""
        await Delivering(self, connection).run()

    def refuse(self, number: int) -> float:
        """Seconds until it is tried again."""
        _, before_s = self._retries.get(number, (0.0, RETRY_FIRST_S / 2))
        pause_s = min(2 * before_s, RETRY_MOST_S)
        self._retries[number] = (self.clock.now() + pause_s, pause_s)
        self.suspects.discard(number)
        return pause_s

    def settle(self, number: int) -> None:
        self._retries.pop(number, None)
        self.suspects.discard(number)

    def is_due(self, number: int) -> bool:
        retry = self._retries.get(number)
        return retry is None or retry[0] <= self.clock.now()

    def due_next(self, under_way: set[int]) -> tuple[float, int] | None:
        """(when, number) of the next one to be tried again."""
        waiting = ((at_s, n) for n, (at_s, _) in self._retries.items() if n not in under_way)
        return min(waiting, default=None)


class Delivering:
    """What has become of the answers on one connection.

    _under_way  that the broker has not answered yet
    _taken      that it has taken; the desk is being told
    """

    def __init__(self, outbox: Outbox, connection: Connection) -> None:
        self._outbox, self._connection = outbox, connection
        self._under_way: set[int] = set()
        self._taken: list[int] = []
        self._telling: set[int] = set()
        self._answered, self._some_taken = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        untold, self._outbox.untold = self._outbox.untold, []
        for told in untold:
            self._connection.post(self._outbox.topics.errors, told)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish(), name="mqtt answers")
            tasks.create_task(self._tell_desk(), name="mqtt answers taken")

    async def _publish(self) -> None:
        outbox, after = self._outbox, 0
        while True:
            outbox.ready.clear()
            try:
                waiting = await outbox.desk.outgoing(DOOR, after, BATCH)
            except StorageFailed as error:
                log.warning("the outbox cannot be read: %s", error)
                await asyncio.sleep(error.retry_after_s or RETRY_FIRST_S)
                continue
            for outgoing in waiting:
                after = outgoing.number
                if not outbox.is_due(after) or self._is_handled(after):
                    continue
                try:
                    address = _read_address(outgoing)
                except Unreadable as error:
                    await self._strike_off(outgoing, str(error))
                    continue
                alone = after in outbox.suspects
                await self._fewer_than(1 if alone else WINDOW)
                self._post(outgoing, address)
                await self._fewer_than(1 if alone else WINDOW + 1)
            if not waiting:
                after = await self._news(after)

    async def _news(self, after: int) -> int:
        """Return when there may be more, with the number after which to look."""
        due = self._outbox.due_next(self._under_way)
        if due is None:
            await self._outbox.ready.wait()
            return after
        at_s, number = due
        try:
            async with asyncio.timeout(max(0.0, at_s - self._outbox.clock.now())):
                await self._outbox.ready.wait()
        except TimeoutError:
            return number - 1
        return after

    def _is_handled(self, number: int) -> bool:
        return number in self._under_way or number in self._taken or number in self._telling

    async def _fewer_than(self, count: int) -> None:
        while len(self._under_way) >= count:
            self._answered.clear()
            await self._answered.wait()

    async def _strike_off(self, outgoing: Outgoing, reason: str) -> None:
        outbox = self._outbox
        try:
            await outbox.desk.undeliverable(outgoing.number, reason)
        except StorageFailed as error:
            pause_s = outbox.refuse(outgoing.number)
            log.warning("%s; trying again in %.0f s", error, pause_s)
            return
        outbox.settle(outgoing.number)
        log.error("the answer of request %r goes nowhere: %s", outgoing.id, reason)
        told = {"code": "undeliverable", "message": reason}
        self._connection.post(outbox.topics.errors, error_notice(outgoing.id, "", told))

    def _post(self, outgoing: Outgoing, address: Address) -> None:
        topic = address.topic or self._outbox.topics.response(outgoing.id)
        payload = echoed(outgoing.answer, address)
        if len(payload) + ENVELOPE_BYTES > self._connection.max_packet_bytes:
            self._refused(outgoing, topic, NotTaken(PACKET_TOO_LARGE))  # it would cut us
            return
        if self._connection.ended.done():
            return  # and soon we are cancelled; it would look guilty of that
        self._under_way.add(outgoing.number)
        taken = self._connection.post(
            topic, payload, properties=answer_properties(address, outgoing.hops)
        )
        taken.add_done_callback(lambda done: self._note(outgoing, topic, done.result()))

    def _note(self, outgoing: Outgoing, topic: str, code: int | None) -> None:
        number = outgoing.number
        self._under_way.discard(number)
        self._answered.set()
        if code is None and number not in self._outbox.suspects:
            self._outbox.suspects.add(number)
        elif code is None or code >= FAILURE:
            self._refused(outgoing, topic, NotTaken(code) if code else None)
        else:
            self._outbox.settle(number)
            self._taken.append(number)
            self._some_taken.set()

    def _refused(self, outgoing: Outgoing, topic: str, refusal: NotTaken | None) -> None:
        """None: the connection ended over it, and nothing else was under way."""
        reason = str(refusal) if refusal else "the connection ended twice over it"
        pause_s = self._outbox.refuse(outgoing.number)
        log.warning(
            "the broker does not take the answer of request %r on %s: %s; trying again in %.0f s",
            outgoing.id,
            topic,
            reason,
            pause_s,
        )
        told = error_notice(outgoing.id, topic, {"code": "not_taken", "message": reason})
        heard = self._connection.post(self._outbox.topics.errors, told)
        heard.add_done_callback(
            lambda done: self._outbox.untold.append(told) if done.result() is None else None
        )

    async def _tell_desk(self) -> None:
        """Many at a time: what the broker takes during one commit goes into the next one."""
        settled: list[int] = []
        while True:
            await self._some_taken.wait()
            self._some_taken.clear()
            taken, self._taken = self._taken, []
            settled += self._connection.take_settled()
            self._telling = set(taken)
            try:
                await self._outbox.desk.delivered(taken, settled_mids=settled)
            except StorageFailed as error:
                log.warning("delivered answers cannot be struck off: %s", error)
                self._taken += taken
                self._some_taken.set()
                await asyncio.sleep(error.retry_after_s or RETRY_FIRST_S)
            else:
                settled = []


def _read_address(outgoing: Outgoing) -> Address:
    """Raises Unreadable for what nobody can publish to: it is not what was stored."""
    try:
        address = decode_address(outgoing.reply_to)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"its address cannot be read: {error}") from error
    if problem := find_problem(address.topic or outgoing.id):
        raise Unreadable(f"its address cannot be read: the topic {problem}")
    return address


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


def error_notice(id: str | None, topic: str, error: dict[str, Any]) -> bytes:
    """For `errors`. Never the payload itself: prompts are private. Nor 64 KiB of topic."""
    return msgspec.json.encode({"id": id, "topic": topic[:MAX_TOPIC_BYTES], "error": error})
