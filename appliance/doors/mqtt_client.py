"""One connection to the broker.

A `Connection` is used once; the next one is a new object with new clients below it,
because theirs keep messages of the old one. An acknowledgement only goes out on the
connection that brought its message. Nothing here ever reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from appliance.doors import mqtt_socket
from appliance.doors.mqtt_message import Message, Properties
from appliance.doors.mqtt_packet import Malformed, decode_publish
from appliance.doors.mqtt_paho import QuietClient, Terms
from appliance.doors.mqtt_sending import FAILURE, WINDOW, NotTaken, Sending

MAX_UNFINISHED = 256
MAX_UNFINISHED_BYTES = 16 * 1024 * 1024
"""Messages and payload in work; beyond them nothing is read. Our own bound, because
Mosquitto 2.0.11 overruns any Receive Maximum above 1 from the first acknowledgement on."""

BAD_CREDENTIALS, NOT_AUTHORIZED, SESSION_TAKEN_OVER = 0x86, 0x87, 0x8E


class ConnectionEnded(Exception):
    """No connection, or none any more. `code` is the broker's reason, if it told one."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


Take = Callable[["Connection", Message], None]


def _words(error: OSError | UnicodeError) -> str:
    """For people: asyncio's own for a refused connection name a call and a tuple."""
    if (type(error) is OSError or isinstance(error, ConnectionError)) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error)


@contextlib.asynccontextmanager
async def connected(terms: Terms, take: Take) -> AsyncIterator[Connection]:
    """A connection; `take` is called with each message, from the first moment on.

    Left without `disconnect()`, it is cut, and the broker publishes the will.

    Raises ConnectionEnded if there is none within `connect_timeout_s`.
    """
    connection = Connection(terms, take)
    try:
        await connection.open()
        yield connection
    finally:
        connection.cut("left")


class Connection:
    """See `connected`. `ended` is done when it has ended, with the reason.

    session_present   the broker still had our session
    max_packet_bytes  the most that the broker takes
    """

    def __init__(self, terms: Terms, take: Take) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[ConnectionEnded] = self._loop.create_future()
        self.session_present = False
        self.max_packet_bytes = 268_435_455  # MQTT's own
        self._terms, self._take = terms, take
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._granted: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._unfinished = self._unfinished_bytes = 0
        self._paused = False
        self._client = QuietClient(terms)
        self._paho = self._client.paho
        self._sending = Sending(self._paho, timeout_s=terms.publish_timeout_s, give_up=self.cut)
        self._client.on_drained = self._sending.note_drained
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_publish = lambda _client, _data, mid, code, _more: self._sending.note_answer(
            mid, code.value
        )
        self._paho._handle_publish = self._on_publish  # type: ignore[method-assign]  # noqa: SLF001

    async def open(self) -> None:
        """Raises ConnectionEnded."""
        terms = self._terms
        try:
            async with asyncio.timeout(terms.connect_timeout_s):
                sock = await mqtt_socket.connect(terms.host, terms.port, terms.tls)
                self._client.connect_over(sock)
                await self._greeted
        except TimeoutError:
            raise ConnectionEnded(f"no answer within {terms.connect_timeout_s:g} s") from None
        except (OSError, UnicodeError) as error:  # the latter for a host that can be no name
            raise ConnectionEnded(_words(error)) from error

    async def raise_when_ended(self) -> None:
        """Raises ConnectionEnded, sooner or later."""
        raise await asyncio.shield(self.ended)

    async def subscribe(
        self, filters: tuple[str, ...], *, news_only: bool = False, kept_too: bool = False
    ) -> None:
        """Once, with QoS 1. With MQTT 5, what was retained comes to a new subscription only.

        news_only  With QoS 0, so that nothing is kept for us. What is marked as retained
                   then was published before we asked; MQTT 5 does not even send it.
        kept_too   It does send it all the same.

        Raises ConnectionEnded if one is refused.
        """
        qos = 0 if news_only else 1
        options = SubscribeOptions(
            qos=qos,
            retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
            if news_only and not kept_too
            else SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
            retainAsPublished=not news_only,
        )
        how: Any = options if self._terms.is_v5 else qos  # paho takes either, by version
        self._paho.subscribe([(each, how) for each in filters])
        try:
            # Not aiomqtt's: Python 3.11's wait_for, which it uses, may swallow a cancellation.
            async with asyncio.timeout(self._terms.connect_timeout_s):
                granted = await self._granted
        except TimeoutError:
            raise ConnectionEnded("the broker does not answer SUBSCRIBE") from None
        if len(granted) != len(filters):
            raise ConnectionEnded(f"{len(granted)} answers to {len(filters)} subscriptions")
        for each, code in zip(filters, granted, strict=True):
            if code.is_failure:
                raise ConnectionEnded(f"we may not subscribe to {each}: {code}", code.value)

    def post(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> asyncio.Future[int | None]:
        """Send, after all that was sent before, and do not wait.

        The result is the broker's reason code, a no from FAILURE on; None if the
        connection ended before it answered. With QoS 0, 0 at once.
        """
        return self._sending.post(topic, payload, qos=qos, retain=retain, properties=properties)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Send, and return when the broker has taken it.

        Raises NotTaken, ConnectionEnded.
        """
        code = await self.post(topic, payload, qos=qos, retain=retain, properties=properties)
        if code is None:
            raise await asyncio.shield(self.ended)
        if code >= FAILURE:
            raise NotTaken(code)

    def take_settled(self) -> list[int]:
        """Numbers of messages whose acknowledgement the broker has certainly handled.

        It has answered what we sent after it. Each is told once.
        """
        settled, self._sending.settled = self._sending.settled, set()
        return sorted(settled)

    async def room(self) -> None:
        """Return when little enough is under way to say what nobody waits for."""
        await self._sending.room()

    def acknowledge(self, message: Message) -> None:
        """Its message is in our care. Dropped if the connection has ended: it comes again."""
        if message.qos and not self.ended.done():
            self._sending.acknowledge(message.mid)

    def finished(self, message: Message) -> None:
        """Make room for another one. To be called once for each message taken."""
        self._unfinished -= 1
        self._unfinished_bytes -= len(message.payload)
        if self._paused and not self._has_much(0.5):
            self._paused = False
            self._client.resume_reading()

    async def disconnect(self) -> None:
        """Say goodbye: the broker keeps our session, and does not publish the will."""
        self._paho.disconnect()
        await asyncio.shield(self.ended)

    def cut(self, reason: str) -> None:
        """End it now. Idempotent."""
        self._paho._sock_close()  # noqa: SLF001 - without a DISCONNECT, which may not get through
        self._end(ConnectionEnded(reason))

    def _end(self, reason: ConnectionEnded) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        if not self._greeted.done():
            self._greeted.set_exception(reason)
            self._greeted.exception()  # seen, whether anybody still waits for it or not
        self._sending.end()

    def _on_connect(
        self,
        _client: paho.Client,
        _data: Any,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: PahoProperties | None,
    ) -> None:
        if code.is_failure:
            self._end(ConnectionEnded(f"the broker refused us: {code}", code.value))
            return
        self.session_present = flags.session_present
        if self._terms.is_v5:
            self._paho._max_inflight_messages = min(  # noqa: SLF001 - nothing is under way yet
                WINDOW, getattr(properties, "ReceiveMaximum", WINDOW)
            )
            self.max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)
        if not self._greeted.done():
            self._greeted.set_result(None)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: Any,
        _mid: int,
        codes: list[ReasonCode],
        _properties: PahoProperties | None,
    ) -> None:
        if not self._granted.done():
            self._granted.set_result(codes)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: PahoProperties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(ConnectionEnded(f"the broker put us out: {code}", code.value))
        else:
            # 0x80 is paho's word for all that a socket can report.
            reason = "the connection broke" if code.value == FAILURE else str(code)
            refusal = self._sending.refusal
            self._end(
                ConnectionEnded(f"{reason}, after it refused {refusal}" if refusal else reason)
            )

    def _on_publish(self) -> MQTTErrorCode:
        """Take a message. One that cannot be read is one all the same.

        paho would cut the connection over it, the broker would send it again, and so
        on for ever: one text property with U+FEFF in it, which Mosquitto lets pass,
        would keep everybody out.
        """
        packet = self._paho._in_packet  # noqa: SLF001
        try:
            message = decode_publish(
                packet["command"], bytes(packet["packet"]), is_v5=self._terms.is_v5
            )
        except Malformed as error:
            self.cut(f"the broker sent a broken message: {error}")
        else:
            self._on(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on(self, message: Message) -> None:
        self._sending.forget(message.mid)
        self._unfinished += 1
        self._unfinished_bytes += len(message.payload)
        if not self._paused and self._has_much(1.0):
            self._paused = True
            self._client.pause_reading()
        self._take(self, message)

    def _has_much(self, share: float) -> bool:
        return (
            self._unfinished >= MAX_UNFINISHED * share
            or self._unfinished_bytes >= MAX_UNFINISHED_BYTES * share
        )
