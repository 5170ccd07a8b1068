"""How this appliance connects to its broker, from the configuration."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from appliance.config import Mqtt
from appliance.doors.mqtt_client import ConnectionEnded
from appliance.doors.mqtt_paho import Terms


def terms(
    config: Mqtt,
    *,
    identifier: str,
    session_expiry_s: int,
    max_packet_bytes: int,
    will: tuple[str, bytes] = ("", b""),
) -> Terms:
    """Raises ConnectionEnded for a file that cannot be read; the password is read each time."""
    key = ""
    try:
        key = "mqtt.password_file"
        password = Path(config.password_file).read_text().strip() if config.password_file else ""
        key = "mqtt.tls_ca_file"
        tls = _trusting(config.tls_ca_file) if config.tls else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectionEnded(f"{key}: {error}") from error
    return Terms(
        host=config.host,
        port=config.port,
        is_v5=config.version == "5",
        identifier=identifier,
        username=config.username,
        password=password,
        tls=tls,
        keep_alive_s=config.keep_alive_s,
        session_expiry_s=session_expiry_s,
        connect_timeout_s=config.connect_timeout_s,
        publish_timeout_s=config.publish_timeout_s,
        max_packet_bytes=max_packet_bytes,
        will_topic=will[0],
        will_payload=will[1],
    )


@functools.cache
def _trusting(ca_file: str) -> ssl.SSLContext:
    """To load the system's authorities takes longer than to connect."""
    return ssl.create_default_context(cafile=ca_file or None)
