"""What a broker sends is a message, or is left at once; and neither takes long."""

from __future__ import annotations

import re
import time

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.doors.mqtt_message import Message, Properties
from appliance.doors.mqtt_packet import MAX_PROPERTIES_BYTES, Malformed, decode_publish
from tests.mqtt_wire import Publication, text, varint

QOS_1 = 0x32


def decoded(message: Publication) -> Message:
    return decode_publish(message.encoded(7)[0], message.body(7), is_v5=True)


def test_all_that_a_message_may_say() -> None:
    """Topic, number, flags and properties, each in its place."""
    said = Publication(
        "wattnap/home/request",
        b"hi",
        retain=True,
        response_topic="kitchen/wattnap/1",
        correlation=b"\0\xff",
        expiry_s=60,
        content_type="text/plain",
        user=[("client", "kitchen"), ("client", "hall")],
        more=b"\x01\x01" + b"\x0b\x80\x01" + b"\x0b\x05",  # a format, two subscriptions
    )

    assert decoded(said) == Message(
        topic="wattnap/home/request",
        payload=b"hi",
        qos=1,
        mid=7,
        retained=True,
        properties=Properties(
            response_topic="kitchen/wattnap/1",
            correlation=b"\0\xff",
            expiry_s=60,
            content_type="text/plain",
            user=(("client", "kitchen"), ("client", "hall")),
        ),
    )


TEXT = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=9)
"""What a sender may say: no surrogates and no U+0000 (MQTT-1.5.4-1 and -2); U+FEFF we refuse."""


@given(
    st.builds(
        Publication,
        topic=TEXT,
        payload=st.binary(),
        qos=st.integers(0, 1),
        retain=st.booleans(),
        response_topic=st.none() | TEXT,
        correlation=st.none() | st.binary(),
        expiry_s=st.none() | st.integers(0, 2**32 - 1),
        content_type=st.none() | TEXT,
        user=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
        more=st.sampled_from((b"", b"\x01\x01", b"\x0b\x05")),
        dup=st.booleans(),
    )
)
def test_what_was_said_is_what_is_read(said: Publication) -> None:
    """With either version."""
    heard = Message(
        topic=said.topic,
        payload=said.payload,
        qos=said.qos,
        mid=7 if said.qos else 0,
        retained=said.retain,
        redelivered=said.dup,
        properties=Properties(
            response_topic=said.response_topic,
            correlation=said.correlation,
            expiry_s=said.expiry_s,
            content_type=said.content_type,
            user=tuple(said.user),
        ),
    )
    assert decoded(said) == heard

    old = decode_publish(said.encoded(7)[0], said.body(7, v5=False), is_v5=False)
    assert old == msgspec.structs.replace(heard, properties=Properties())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"\x03" + text("\ufeff"), r"U\+FEFF"),
        (b"\x03" + text("\0"), r"U\+0000"),
        (b"\x08" + text("\ud800"), "UTF-8"),
        (b"\x02\0\0\0\x01" * 2, "0x02 comes twice"),
        (b"\x23\0\x01", "0x23 is not for us"),
        (b"\x55", "0x55 is not for us"),
        (b"\x09\0\x05abc", "too soon"),
        (b"\xff" * 5, "more than four bytes"),
        (b"\x26\0\0\0\0" * (MAX_PROPERTIES_BYTES // 5 + 1), "bytes of properties"),
    ],
)
def test_properties_that_cannot_be_read_are_a_message_all_the_same(more: bytes, words: str) -> None:
    """It has a number, to be acknowledged, and a reason, to be told."""
    read = decoded(Publication("t", b"hi", more=more))

    assert (read.topic, read.mid, read.payload) == ("t", 7, b"")
    assert re.search(words, read.unreadable)


@pytest.mark.parametrize(
    ("command", "packet"),
    [
        (QOS_1, b""),
        (QOS_1, b"\0"),
        (QOS_1, b"\0\x09t"),
        (QOS_1, text("t") + b"\x07"),
        (QOS_1, text("t") + b"\0\0" + varint(0)),
        (0x34, text("t") + b"\0\x07" + varint(0)),
        (0x36, text("t") + b"\0\x07" + varint(0)),
    ],
)
def test_what_has_no_number_is_no_message(command: int, packet: bytes) -> None:
    """It cannot be acknowledged, so its broker is to be left."""
    with pytest.raises(Malformed):
        decode_publish(command, packet, is_v5=True)


@given(st.integers(0, 15), st.binary(max_size=60), st.booleans())
@example(2, text("t") + b"\0\x07" + b"\x80", True)
def test_any_bytes_are_a_message_or_malformed(flags: int, packet: bytes, is_v5: bool) -> None:
    """Nothing else is ever raised."""
    try:
        read = decode_publish(0x30 | flags, packet, is_v5=is_v5)
    except Malformed as error:
        assert str(error)
    else:
        assert bool(read.mid) == bool(read.qos)
        assert not (read.unreadable and read.payload)


def test_many_properties_take_no_time() -> None:
    """Any sender may publish megabytes of them; all others wait meanwhile."""
    most = Publication("t", user=[("", "")] * (MAX_PROPERTIES_BYTES // 5)).body(7)
    began_s = time.monotonic()
    read = decode_publish(QOS_1, most, is_v5=True)
    took_s = time.monotonic() - began_s

    assert len(read.properties.user) == MAX_PROPERTIES_BYTES // 5
    assert took_s < 1.0  # 0.05 here; with a copy of the rest for each, 6
