"""A PUBLISH from the broker, decoded: MQTT 5.0, section 3.3, and 3.1.1 likewise.

Pure, and linear in the packet's size. paho's own decoder copies the rest of the packet
for each property, so that one message with a megabyte of User Properties, which any
sender may publish, would hold up everything for minutes.
"""

from __future__ import annotations

import struct

from appliance.doors.mqtt_message import Message, Properties

MAX_PROPERTIES_BYTES = 256 * 1024
"""Ours. The longest Response Topic, Correlation Data and Content Type together need less."""


class Malformed(Exception):
    """What MQTT does not allow there."""


def decode_publish(command: int, packet: bytes, *, is_v5: bool) -> Message:
    """`command` is the packet's first byte; `packet` what follows its length.

    A message whose topic or properties cannot be read says so in `unreadable`.

    Raises Malformed if not even its number can be.
    """
    qos = (command >> 1) & 3
    if qos > 1:
        raise Malformed(f"QoS {qos}, where we have subscribed with 1")
    reader = _Reader(packet)
    topic = reader.binary()
    mid = reader.number("!H") if qos else 0
    if qos and not mid:
        raise Malformed("number 0 with QoS 1")
    properties, payload, unreadable = Properties(), b"", ""
    try:
        _text(topic)
        if is_v5:
            properties = _properties(reader)
        payload = reader.rest()
    except Malformed as error:
        unreadable = str(error)
    return Message(
        topic=topic.decode(errors="replace"),
        payload=payload,
        qos=qos,
        mid=mid,
        retained=bool(command & 1),
        redelivered=bool(command & 8),
        properties=properties,
        unreadable=unreadable,
    )


def _properties(packet: _Reader) -> Properties:
    size = packet.varint()
    if size > MAX_PROPERTIES_BYTES:
        raise Malformed(f"{size} bytes of properties; at most {MAX_PROPERTIES_BYTES} are taken")
    reader = _Reader(packet.take(size))
    response_topic: str | None = None
    content_type: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: list[tuple[str, str]] = []
    seen: set[int] = set()
    while reader.has_more:
        kind = reader.varint()
        if kind in seen:
            raise Malformed(f"property 0x{kind:02x} comes twice")
        match kind:
            case 0x26:
                user.append((_text(reader.binary()), _text(reader.binary())))
                continue  # these may come as often as they like
            case 0x0B:  # Subscription Identifier: so may these, and we have asked for none
                reader.varint()
                continue
            case 0x01:  # Payload Format Indicator: we look for ourselves
                reader.number("!B")
            case 0x02:
                expiry_s = reader.number("!I")
            case 0x03:
                content_type = _text(reader.binary())
            case 0x08:
                response_topic = _text(reader.binary())
            case 0x09:
                correlation = reader.binary()
            case _:  # a Topic Alias, too: we have allowed none
                raise Malformed(f"property 0x{kind:02x} is not for us")
        seen.add(kind)
    return Properties(
        response_topic=response_topic,
        correlation=correlation,
        expiry_s=expiry_s,
        content_type=content_type,
        user=tuple(user),
    )


def _text(raw: bytes) -> str:
    """MQTT 5.0, section 1.5.4. A U+FEFF is allowed there, but not by paho, which has to send it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"it is not UTF-8: {error}") from error
    for char in "\0\ufeff":
        if char in text:
            raise Malformed(f"U+{ord(char):04X} in its topic or properties")
    return text


class _Reader:
    """Reads from the front. Raises Malformed where there is less than that."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise Malformed(f"it ends {size - len(taken)} bytes too soon")
        self._at += size
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def number(self, form: str) -> int:
        """`form` as in struct."""
        (number,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(number)

    def binary(self) -> bytes:
        """What stands behind its length, two bytes."""
        return self.take(self.number("!H"))

    def varint(self) -> int:
        """Section 1.5.5: seven bits in each of at most four bytes."""
        value = 0
        for place in range(4):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise Malformed("a number of more than four bytes")
