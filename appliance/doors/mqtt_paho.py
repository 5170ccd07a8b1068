"""The clients below a connection: aiomqtt 2.5.1 over paho 2.2.0, and what they call things.

Both are pinned: their private parts that we use are listed in docs/decisions/0006.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any

import aiomqtt
from msgspec import Struct
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from appliance.doors.mqtt_message import Properties

# paho calls each lost connection an ERROR, in its own words; we say it once, in ours.
_paho_log = logging.getLogger(f"{__name__}.paho")
_paho_log.setLevel(logging.CRITICAL)

RECEIVE_MAXIMUM = 128
WILL_DELAY_S = 3


class Terms(Struct, frozen=True, kw_only=True):
    """How to connect. The will is retained; without a topic there is none.

    session_expiry_s  0: no session is found, and none is left
    """

    host: str
    port: int
    is_v5: bool
    identifier: str
    username: str
    password: str
    tls: ssl.SSLContext | None
    keep_alive_s: int
    session_expiry_s: int
    connect_timeout_s: float
    publish_timeout_s: float
    max_packet_bytes: int
    will_topic: str = ""
    will_payload: bytes = b""


class QuietClient(aiomqtt.Client):
    """aiomqtt without its thread, its task per tick, and its writes to closed sockets.

    As shipped it hands socket events to the loop with call_soon_threadsafe. A
    socket that closes meanwhile leaves a writer behind that nobody removes, under a
    number that the next socket may have. We are on the loop already.
    """

    on_drained: Callable[[], None]
    """All that was to be sent has been."""

    _tick_due: Any = None  # asyncio.TimerHandle, uvloop's or asyncio's

    def __init__(self, terms: Terms) -> None:
        v5, clean = terms.is_v5, terms.session_expiry_s == 0
        will = aiomqtt.Will(
            terms.will_topic,
            terms.will_payload,
            qos=1,
            retain=True,
            properties=_will_properties() if v5 else None,
        )
        super().__init__(
            terms.host,
            terms.port,
            identifier=terms.identifier,
            username=terms.username or None,
            password=terms.password or None,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            clean_session=None if v5 else clean,
            clean_start=clean if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_connect_properties(terms) if v5 else None,
            keepalive=terms.keep_alive_s,
            timeout=terms.connect_timeout_s,
            max_inflight_messages=20,  # Mosquitto's own, for brokers that do not say
            will=will if terms.will_topic else None,
            logger=_paho_log,
        )
        self.paho = self._client
        self.paho.manual_ack_set(True)

    def connect_over(self, sock: Any) -> None:
        """Send CONNECT. `sock` is connected, and paho's from now on."""
        # paho's own way would block the loop, or need a thread that goes on
        # connecting, under our name, after we were cancelled.
        self.paho._create_socket = lambda: sock  # type: ignore[method-assign]  # noqa: SLF001
        self._client_connect()

    def read(self) -> None:
        self.paho.loop_read()
        sock = self.paho.socket()
        while isinstance(sock, ssl.SSLSocket) and self.paho.socket() and sock.pending():
            self.paho.loop_read()  # decrypted already: the loop would not tell of it

    def pause_reading(self) -> None:
        if sock := self.paho.socket():
            self._loop.remove_reader(sock.fileno())

    def resume_reading(self) -> None:
        if sock := self.paho.socket():
            self._loop.add_reader(sock.fileno(), self.read)
            self._loop.call_soon(self.read)  # TLS may hold some, decrypted

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.add_reader(sock.fileno(), self.read)
        self._tick()

    def _on_socket_close(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock.fileno())
        if self._tick_due is not None:
            self._tick_due.cancel()

    def _on_socket_register_write(self, client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.add_writer(sock.fileno(), client.loop_write)

    def _on_socket_unregister_write(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.remove_writer(sock.fileno())
        self.on_drained()

    def _tick(self) -> None:
        """Let paho ping, and miss pings. It is late by a tick at most: the broker waits
        for 1.5 times the interval (MQTT 5.0, 3.1.2.10)."""
        if self.paho.loop_misc() == paho.MQTT_ERR_SUCCESS:
            after_s = max(1.0, self.paho.keepalive / 6)
            self._tick_due = self._loop.call_later(after_s, self._tick)


def _connect_properties(terms: Terms) -> PahoProperties:
    properties = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = terms.session_expiry_s
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = terms.max_packet_bytes
    return properties


def _will_properties() -> PahoProperties:
    """A short interruption is not worth telling everybody."""
    properties = PahoProperties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = WILL_DELAY_S
    return properties


def paho_properties(properties: Properties) -> PahoProperties:
    told = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if properties.content_type:
        told.ContentType = properties.content_type
    if properties.correlation is not None:
        told.CorrelationData = properties.correlation
    if properties.user:
        told.UserProperty = list(properties.user)
    return told
