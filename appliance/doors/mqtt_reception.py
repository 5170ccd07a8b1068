"""What is done with one message: to the desk, or back to its sender with the reason.

It is acknowledged when the desk has committed it, or has put its refusal into the
ledger and the reason is on its way before the acknowledgement. `interrupted` is
neither: the broker keeps the message.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from appliance.desk import Delivery, Desk
from appliance.doors.mqtt_client import Connection, ConnectionEnded
from appliance.doors.mqtt_message import (
    DOOR,
    Caller,
    Message,
    Properties,
    caller_of,
    client_of,
    encode_address,
    understand,
)
from appliance.doors.mqtt_news import progress_json
from appliance.doors.mqtt_outbox import answer_properties, echoed, error_notice
from appliance.doors.mqtt_sending import NotTaken
from appliance.doors.mqtt_topics import Asked, Topics
from appliance.errors import ApplianceError, BadRequest, Interrupted, Loop
from appliance.notices import Progress

MAX_TELLING = 256
MAX_REMEMBERED = 256


class _Wake(Struct, frozen=True, forbid_unknown_fields=True):
    keep_warm_s: Annotated[float, Meta(ge=0, le=7 * 86400)] = 0.0


class _Rest(Struct, frozen=True, forbid_unknown_fields=True):
    depth: str | None = None


Control = TypeVar("Control", _Wake, _Rest)
Key = TypeVar("Key")


class NothingToCancel(BadRequest):
    """No request under this id waits or runs. It is told, but it is no refused request."""


class Reception:
    """Takes messages, many at a time."""

    def __init__(self, desk: Desk, topics: Topics, limit_bytes: int) -> None:
        self._desk, self._topics, self._limit_bytes = desk, topics, limit_bytes
        self._telling = 0
        self._told_of: dict[bytes, None] = {}
        self._closed: dict[str, None] = {}
        """Topics on which the broker did not take an error."""

    async def take(self, connection: Connection, message: Message) -> None:
        """Return when nothing more will be done with it on this connection."""
        asked, refused = None, None
        try:
            asked = self._understand_topic(message)
            await self._carry_out(connection, message, asked)
        except Interrupted:
            return
        except ApplianceError as error:
            if not (message.retained and self._is_known(message)):
                refused = error
                caller = caller_of(message, asked, self._topics)
                if not isinstance(error, NothingToCancel):
                    await self._desk.refused(DOOR, caller.client, caller.id, error)
        finally:
            # What follows waits for the broker, which is only heard while there is room.
            connection.finished(message)
        if refused is not None:
            try:
                await self._tell(connection, message, caller, refused)
            except ConnectionEnded:
                return  # it comes again
        connection.acknowledge(message)

    def _understand_topic(self, message: Message) -> Asked:
        if message.unreadable:
            raise BadRequest(f"the message cannot be read: {message.unreadable}")
        if message.retained:
            raise BadRequest(
                "a retained message would be served again after each interruption;"
                " publish it without the retain flag"
            )
        return self._topics.understand(message.topic)

    async def _carry_out(self, connection: Connection, message: Message, asked: Asked) -> None:
        match asked.what:
            case "request":
                await self._accept(connection, message, asked)
            case "cancel":
                assert asked.id is not None
                if not await self._desk.cancel(DOOR, client_of(message), asked.id):
                    raise NothingToCancel(f"cancel: no request {asked.id!r} waits or runs here")
            case "wake":
                self._desk.wake(_decode(message.payload, _Wake).keep_warm_s)
            case "rest":
                self._desk.rest(_depth(message.payload))

    async def _accept(self, connection: Connection, message: Message, asked: Asked) -> None:
        request, address = understand(message, asked, self._topics, self._limit_bytes)
        receipt = await self._desk.accept(
            request,
            reply_to=encode_address(address),
            delivery=Delivery(message.mid, message.redelivered) if message.qos else None,
        )
        if receipt.repeated:  # else the desk's own notice says "queued"
            state = "queued" if receipt.state == "waiting" else receipt.state
            progress = Progress(door=DOOR, client=request.client, id=receipt.id, state=state)
            connection.post(self._topics.status(receipt.id), progress_json(progress))

    async def _tell(
        self, connection: Connection, message: Message, caller: Caller, error: ApplianceError
    ) -> None:
        """Return when the broker has it, or will have it before our acknowledgement.

        In a flood of nonsense, the excess is told with QoS 0: nothing piles up here.

        Raises ConnectionEnded.
        """
        qos = 1 if self._telling < MAX_TELLING else 0
        self._telling += 1
        try:
            # Told to who forwards what we say to us, a loop would only go on.
            if caller.address is not None and not isinstance(error, Loop):
                topic = caller.address.topic or self._topics.response(caller.id or "")
                answer = msgspec.json.encode({"id": caller.id, "error": error.as_dict()})
                payload = echoed(answer, caller.address)
                properties = answer_properties(caller.address, caller.hops)
                if await self._is_taken(connection, topic, payload, qos, properties):
                    return
            told = error_notice(caller.id, message.topic, error.as_dict())
            code = await connection.post(self._topics.errors, told, qos=qos)
            if code is None:
                raise ConnectionEnded("while telling of an error")
        finally:
            self._telling -= 1

    async def _is_taken(
        self, connection: Connection, topic: str, payload: bytes, qos: int, properties: Properties
    ) -> bool:
        """False if the broker does not take it, or cut us over it the last time."""
        if topic in self._closed:
            del self._closed[topic]  # another message may try again
            return False
        try:
            await connection.publish(topic, payload, qos=qos, properties=properties)
        except (NotTaken, ConnectionEnded) as error:
            _remember(self._closed, topic)
            if isinstance(error, ConnectionEnded):
                raise
            return False
        return True

    def _is_known(self, message: Message) -> bool:
        """True for a retained message that nobody need hear of: told before, or a removal."""
        if not message.payload:
            return True
        key = hashlib.sha256(message.topic.encode() + b"\0" + message.payload).digest()
        known = key in self._told_of
        _remember(self._told_of, key)
        return known


def _remember(known: dict[Key, None], key: Key) -> None:
    known[key] = None
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]


def _depth(payload: bytes) -> str | None:
    if payload.lstrip()[:1] == b"{":
        return _decode(payload, _Rest).depth
    try:
        return payload.decode().strip() or None
    except UnicodeDecodeError as error:
        raise BadRequest(f"rest: the payload is not UTF-8: {error}") from error


def _decode(payload: bytes, kind: type[Control]) -> Control:
    try:
        return msgspec.json.decode(payload.strip() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the payload is not understood: {error}") from error
