"""From an MQTT message to a request and the address of its answer.

Pure. With MQTT 5 a sender may say things in properties, with 3.1.1 they stand
in the JSON under "wattnap"; either works with both, and a property wins.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.doors.mqtt_topics import Asked, Topics
from appliance.errors import BadRequest
from appliance.refusal import Form, of_value
from appliance.request import ID, Alias, Request, parse

DOOR = "mqtt"
HOPS = "wattnap-hops"
"""User property on all that we publish for a sender: it must survive being forwarded."""

PROPERTY = Form(unknown="that is unknown:", prefix="wattnap-", strict=False)


class Properties(Struct, frozen=True, kw_only=True):
    """MQTT 5's properties of a message, as far as they mean something here.

    expiry_s  what is left of the Message Expiry Interval
    user      User Properties in their order
    """

    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    content_type: str | None = None
    user: tuple[tuple[str, str], ...] = ()


class Message(Struct, frozen=True, kw_only=True):
    """What the broker delivered.

    mid          its number within the session; 0 with QoS 0
    retained     published to be kept: now, or long ago
    redelivered  the broker says that it has sent it before
    unreadable   why its properties could not be read; then there is no payload either
    """

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    retained: bool = False
    redelivered: bool = False
    properties: Properties = Properties()
    unreadable: str = ""


class Address(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an answer goes, and what of the sender's goes with it. Stored with the request.

    topic        the Response Topic; empty: `<base>/response/<id>`
    correlation  Correlation Data, goes back as such
    echo         `correlation` of the JSON, goes back as a field of the answer
    """

    topic: str = ""
    correlation: bytes | None = None
    echo: str | None = None


encode_address = msgspec.json.Encoder().encode
decode_address = msgspec.json.Decoder(Address).decode


class Caller(Struct, frozen=True, kw_only=True):
    """Whose message it was, as far as can be told when it is refused.

    address  None: it cannot be answered
    """

    client: str = ""
    id: str | None = None
    hops: int = 0
    address: Address | None = None


class _Said(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"klass": "class"}
):
    """User Properties that begin with "wattnap-": the JSON's fields by another road."""

    id: str | None = None
    model: Alias | None = None
    klass: Literal["interactive", "batch"] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    stream: bool | None = None
    hops: Annotated[int, Meta(ge=0)] = 0


class _Hint(Struct, frozen=True):
    """Of a payload that was refused: whom to tell. Wrong types make the whole hint useless."""

    id: str | None = None
    response_topic: str | None = None
    correlation: Annotated[str, Meta(max_length=1024)] | None = None


class _Hints(Struct, frozen=True):
    wattnap: _Hint = _Hint()


_find_hint = msgspec.json.Decoder(_Hints).decode


def understand(
    message: Message, asked: Asked, topics: Topics, limit_bytes: int
) -> tuple[Request, Address]:
    """Raises BadRequest in words that name the field, the property or the topic."""
    said = _said(message.properties)
    request, extras = parse(
        message.payload,
        door=DOOR,
        client=client_of(message),
        limit_bytes=limit_bytes,
        id=asked.id or said.id,
        model=asked.model or said.model,
        hops=said.hops,
    )
    given = {
        "klass": said.klass,
        "priority": said.priority,
        "stream": said.stream,
        "deadline_s": _sooner(message.properties.expiry_s, request.deadline_s),
    }
    request = msgspec.structs.replace(
        request, **{name: value for name, value in given.items() if value is not None}
    )
    response_topic = message.properties.response_topic
    if response_topic is None:
        response_topic = extras.response_topic
    if response_topic is not None:
        topics.check_response(response_topic)
    address = Address(
        topic=response_topic or "",
        correlation=message.properties.correlation,
        echo=extras.correlation,
    )
    return request, address


def client_of(message: Message) -> str:
    """The user property `client`: the broker tells nobody's name.

    Raises BadRequest if it is too long to be kept with each request.
    """
    client = dict(message.properties.user).get("client", "")
    if len(client) > 128:
        raise BadRequest(f"user property client: {len(client)} characters; at most 128 are taken")
    return client


def caller_of(message: Message, asked: Asked | None, topics: Topics) -> Caller:
    """Make out whom to tell that `message` is refused. Never raises."""
    if message.unreadable:
        return Caller()
    user = dict(message.properties.user)
    try:
        hint = _find_hint(message.payload).wattnap
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        hint = _Hint()  # not JSON, or not ours: it was refused for that, or has no hint
    named = ((asked and asked.id), user.get("wattnap-id"), hint.id)
    id = next((id for id in named if id and ID.fullmatch(id)), None)
    hops = user.get(HOPS, "")
    return Caller(
        client=user.get("client", "")[:128],
        id=id,
        hops=int(hops) if hops.isdecimal() and len(hops) < 6 else 0,
        address=None if message.retained else _address(message, asked, hint, id, topics),
    )


def _address(
    message: Message, asked: Asked | None, hint: _Hint, id: str | None, topics: Topics
) -> Address | None:
    topic = message.properties.response_topic
    if topic is None:
        topic = hint.response_topic
    if topic is None:
        if id is None or asked is None or asked.what != "request":
            return None  # on response/<id> only the request's own sender listens
    else:
        try:
            topics.check_response(topic)
        except BadRequest:
            return None
    return Address(
        topic=topic or "", correlation=message.properties.correlation, echo=hint.correlation
    )


def _said(properties: Properties) -> _Said:
    ours = {
        name.removeprefix("wattnap-"): value
        for name, value in properties.user
        if name.startswith("wattnap-")
    }
    try:
        return msgspec.convert(ours, _Said, strict=False)
    except msgspec.ValidationError as error:
        told = of_value(error, ours, _Said, PROPERTY).message
        raise BadRequest(f"user property {told}") from error


def _sooner(expiry_s: int | None, deadline_s: float | None) -> float | None:
    """Message expiry and `deadline_s` both say that nobody wants the answer any more."""
    told = [float(s) for s in (expiry_s, deadline_s) if s]
    return min(told) if told else None
