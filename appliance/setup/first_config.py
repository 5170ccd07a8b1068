"""Writes the configuration of a new installation, for install.sh.

It runs before anything is installed: standard library only. All other settings keep their
defaults, and are the operator's to change.
"""

import ipaddress
import json
import os
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

PASSWORD = "/run/credentials/wattnap.service/mqtt-password"  # noqa: S105 - where it is, not what
PORTS = {"mqtt": 1883, "mqtts": 8883}

HEAD = """\
# Wattnap. Every setting, with its default and meaning: wattnap config --example
# After a change: sudo systemctl restart wattnap
"""

NEAR = tuple(
    ipaddress.ip_network(each)
    for each in (
        "127.0.0.0/8",
        "::1",
        "169.254.0.0/16",
        "fe80::/64",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    )
)
"""What systemd/wattnap.service allows, IPAddressAllow=."""

# systemd.resource-control(5): this adds to the addresses that the unit allows.
OPEN = """\
# Written by install.sh: the broker is in no private network, or nobody knows where it is.
[Service]
IPAddressAllow=any
"""


class BadBroker(Exception):
    """It names no broker. For whoever installs; no front door can meet it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the daemon connects to. `username` and `password`: "" without."""

    host: str
    port: int
    tls: bool
    username: str = ""
    password: str = ""


def read_broker(url: str) -> Broker | None:
    """`mqtt[s]://[user[:password]@]host[:port]`; "none" is none. Raises BadBroker."""
    if url == "none":
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadBroker(f"{error}") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise BadBroker("expected mosquitto, none or mqtt[s]://[user[:password]@]host[:port]")
    return Broker(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def settings(broker: Broker | None) -> str:
    """The file, as TOML."""
    if broker is None:
        return f"{HEAD}\n[mqtt]\nenabled = false\n"
    lines = [f"host = {_quoted(broker.host)}", f"port = {broker.port}"]
    if broker.tls:
        lines.append("tls = true")
    if broker.username:
        lines.append(f"username = {_quoted(broker.username)}")
        # Its content is /etc/wattnap/mqtt-password, which systemd reads as root.
        lines.append(f"password_file = {_quoted(PASSWORD)}")
    return f"{HEAD}\n[mqtt]\n" + "\n".join(lines) + "\n"


def is_near(host: str) -> bool:
    """Whether the unit may reach all its addresses: this machine's or a private network's."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    return all(any(each in network for network in NEAR) for each in addresses)


def write(folder: Path, broker: Broker | None) -> None:
    """wattnap.toml, and where they are needed mqtt-password and broker.conf, a drop-in."""
    folder.mkdir(mode=0o700)
    (folder / "wattnap.toml").write_text(settings(broker), encoding="utf-8")
    if broker is not None and broker.password:
        (folder / "mqtt-password").write_text(broker.password + "\n", encoding="utf-8")
    if broker is not None and not is_near(broker.host):
        (folder / "broker.conf").write_text(OPEN, encoding="utf-8")


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, but for this one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def main(arguments: Sequence[str]) -> int:
    """Write the first configuration into a new folder; for install.sh."""
    parser = ArgumentParser(prog="python -m appliance.setup.first_config", description=main.__doc__)
    parser.add_argument("--broker", default="mqtt://127.0.0.1", help="its address, or none")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        write(chosen.folder, read_broker(chosen.broker))
    except BadBroker as error:
        sys.stderr.write(f"install.sh: --broker: {error}\n")
        return os.EX_USAGE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
