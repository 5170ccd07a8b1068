from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.doors.mqtt_message import (
    Address,
    Message,
    Properties,
    caller_of,
    decode_address,
    encode_address,
    understand,
)
from appliance.doors.mqtt_topics import Asked, Topics
from appliance.errors import BadRequest, Loop
from appliance.request import Request

TOPICS = Topics("wattnap/home")
REQUEST = Asked("request")


def read(
    payload: str | bytes = "hi", asked: Asked = REQUEST, **properties: object
) -> tuple[Request, Address]:
    raw = payload.encode() if isinstance(payload, str) else payload
    message = Message(
        topic="wattnap/home/request",
        payload=raw,
        properties=Properties(**properties),  # type: ignore[arg-type]
    )
    return understand(message, asked, TOPICS, 1 << 20)


def test_properties_say_what_json_says() -> None:
    """Plain text can have an id, a class, a priority, and ask for a stream."""
    user = (
        ("client", "kitchen"),
        ("wattnap-id", "a1"),
        ("wattnap-class", "batch"),
        ("wattnap-priority", "-3"),
        ("wattnap-stream", "true"),
        ("wattnap-hops", "2"),
        ("somebody", "else's"),
    )
    request, _ = read(user=user)

    assert (request.client, request.id, request.klass) == ("kitchen", "a1", "batch")
    assert (request.priority, request.stream, request.hops) == (-3, True, 2)


def test_the_topic_names_model_and_id() -> None:
    """It wins over the payload."""
    payload = json.dumps({"prompt": "x", "wattnap": {"id": "other", "model": "other"}})
    request, _ = read(payload, Asked("request", "main", "a1"))

    assert (request.model, request.id) == ("main", "a1")


@pytest.mark.parametrize(("expiry_s", "expected"), [(None, 30), (10, 10), (60, 30)])
def test_the_sooner_of_expiry_and_deadline_counts(expiry_s: int | None, expected: float) -> None:
    """Both say that nobody wants the answer any more."""
    request, _ = read('{"prompt": "x", "wattnap": {"deadline_s": 30}}', expiry_s=expiry_s)

    assert request.deadline_s == expected


def test_the_address_keeps_what_is_to_go_back() -> None:
    """Correlation Data is bytes, and never an id."""
    request, address = read(response_topic="kitchen/wattnap/1", correlation=b"\0\xff")

    assert address == Address(topic="kitchen/wattnap/1", correlation=b"\0\xff")
    assert request.id is None
    assert decode_address(encode_address(address)) == address


def test_json_carries_what_3_1_1_has_no_properties_for() -> None:
    """Response topic and correlation come back the way they came."""
    ours = {"response_topic": "kitchen/wattnap/1", "correlation": "c7"}
    _, address = read(json.dumps({"prompt": "x", "wattnap": ours}))

    assert address == Address(topic="kitchen/wattnap/1", echo="c7")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ((("wattnap-priority", "high"),), "priority"),
        ((("wattnap-class", "vip"),), "class"),
        ((("wattnap-hops", "-1"),), "hops"),
        ((("wattnap-prio", "1"),), r"unknown: `wattnap-prio` \(did you mean `wattnap-priority`"),
        ((("client", "c" * 200),), "client"),
        ((("wattnap-id", "no spaces"),), "id"),
    ],
)
def test_a_property_that_is_not_understood_is_named(
    user: tuple[tuple[str, str], ...], words: str
) -> None:
    """Like a field of the JSON."""
    with pytest.raises(BadRequest, match=words):
        read(user=user)


def test_the_fourth_hop_is_refused() -> None:
    """Two appliances that answer each other stop."""
    with pytest.raises(Loop):
        read(user=(("wattnap-hops", "4"),))


def test_a_refused_message_still_says_whom_to_tell() -> None:
    """Even where its other fields are wrong."""
    ours = {"id": "a1", "response_topic": "kitchen/wattnap/1", "correlation": "c", "colour": "red"}
    payload = json.dumps({"prompt": 5, "wattnap": ours}).encode()
    caller = caller_of(Message(topic="", payload=payload), Asked("request"), TOPICS)

    assert caller.id == "a1"
    assert caller.address == Address(topic="kitchen/wattnap/1", echo="c")


def test_a_refused_cancel_is_not_told_where_an_answer_is_waited_for() -> None:
    """An error there would be taken for the answer."""
    message = Message(topic="", payload=b"")

    assert caller_of(message, Asked("cancel", id="a1"), TOPICS).address is None
    assert caller_of(message, Asked("request", id="a1"), TOPICS).address == Address()


texts = st.text(max_size=30) | st.sampled_from(
    ["wattnap-hops", "client", "wattnap-id", "kitchen/wattnap/1"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            texts
            | st.sampled_from(["prompt", "messages", "wattnap", "id", "model", "hops", "role"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
payloads = st.binary(max_size=100) | json_values.map(lambda v: json.dumps(v).encode())
properties = st.builds(
    Properties,
    response_topic=st.none() | texts,
    correlation=st.none() | st.binary(max_size=20),
    expiry_s=st.none() | st.integers(0, 2**32 - 1),
    user=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
)
asked = st.builds(Asked, st.just("request"), st.none() | texts, st.none() | texts)


@settings(max_examples=500, deadline=None)
@given(payloads, properties, asked, st.booleans())
def test_whatever_comes_is_understood_or_refused(
    payload: bytes, properties: Properties, asked: Asked, retained: bool
) -> None:
    """No message raises anything but BadRequest, and whom to tell can always be said."""
    message = Message(topic="t", payload=payload, properties=properties, retained=retained)
    try:
        request, address = understand(message, asked, TOPICS, 1 << 20)
        assert decode_address(encode_address(address)) == address
        assert request.door == "mqtt"
    except BadRequest:
        caller_of(message, asked, TOPICS)
