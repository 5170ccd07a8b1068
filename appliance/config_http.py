"""The HTTP door's table of the configuration, and the address that it names."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from appliance.section import Section

ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


class Address(NamedTuple):
    """host  an IP address; "": all interfaces"""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return bool(self.host) and ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


class Http(Section, frozen=True):
    """The HTTP door: OpenAI's API (docs/http.md).

    listen         "127.0.0.1:8071", "[::1]:8071", or a port alone, on all interfaces; empty: off;
                   where systemd has opened a socket for it (wattnap-http), that one is used
    api_keys_file  file with one key a line, or "name: key", for `Authorization: Bearer`; empty:
                   none is asked for. Under systemd, a credential (docs/http.md)
    without_keys   true: whoever reaches `listen` may use it, though that is not this machine only
    origins        web pages that may ask from a browser, e.g. ["http://home.lan:3000"]; "*": any
    """

    listen: str = ""
    api_keys_file: str = ""
    without_keys: bool = False
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"http.origins: {origin!r} is none; write https://NAME[:PORT]")
        if self.address:
            self.check(self.address)

    def check(self, address: Address) -> None:
        """Raises ValueError if others than this machine could ask there, without a key."""
        if not (address.loopback or self.api_keys_file or self.without_keys):
            raise ValueError(
                f"http.listen: {address} is open to others than this machine; name a file of keys"
                " in http.api_keys_file, or set http.without_keys = true"
            )

    @property
    def address(self) -> Address | None:
        """Where to listen; None: nowhere."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        if host == "localhost":
            host = "127.0.0.1"
        elif host:
            try:
                host = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
            except ValueError as error:
                raise ValueError(f"http.listen: {host!r} is no IP address") from error
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"http.listen: {port!r} is no port")
        return Address(host, int(port))
