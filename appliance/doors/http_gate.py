"""Who may use the HTTP door: those with a key, and no web page that was not invited.

Without keys the door listens to this machine only, and then a browser on it is the
danger: any page that it shows can send requests to 127.0.0.1. So a foreign origin is
refused, and so is a name in Host that is none of ours (DNS rebinding).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import os
import re
from pathlib import Path

from aiohttp import hdrs
from aiohttp.web_request import BaseRequest

from appliance.config_http import Http
from appliance.doors.http_problem import Problem
from appliance.errors import ConfigError

LEAST_CHARS = 16
"""Of a key. What can be guessed is none; nor is "none", which systemd may put in its place."""
LINE = re.compile(r"(?:([A-Za-z0-9._-]{1,64}):\s+)?(\S+)")
METHODS = "GET, POST, DELETE, OPTIONS"
CHALLENGE: dict[str, str] = {hdrs.WWW_AUTHENTICATE: "Bearer"}


class Gate:
    """`admit` each request."""

    def __init__(self, config: Http) -> None:
        """Raises ConfigError for a file of keys that cannot be used."""
        self._keys = read_keys(Path(config.api_keys_file)) if config.api_keys_file else {}
        self._origins = frozenset(config.origins)
        address = config.address
        self._any_host = bool(self._keys) or address is None or not address.loopback

    def admit(self, request: BaseRequest) -> str:
        """The client, by the name of its key; "" where no key is asked for.

        Raises Problem.
        """
        if not self._keys:
            return ""
        given = request.headers.get(hdrs.AUTHORIZATION, "")
        scheme, _, key = given.partition(" ")
        if scheme.lower() != "bearer" or not key:
            told = "an API key is needed: Authorization: Bearer KEY"
            raise Problem(401, "missing_api_key", told, CHALLENGE)
        digest = _digest(key.strip())
        # All are compared, each in the same time: how long it takes tells nothing.
        found = [name for known, name in self._keys.items() if hmac.compare_digest(known, digest)]
        if not found:
            raise Problem(401, "invalid_api_key", "this API key is not known here", CHALLENGE)
        return found[0]

    def check_page(self, request: BaseRequest) -> None:
        """Raises Problem for a web page that was not invited, or may be a page in disguise."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not self._invited(origin):
            raise Problem(403, "origin_not_allowed", f"{origin[:200]!r} is not among http.origins")
        if not self._any_host and not _is_here(request.headers.get(hdrs.HOST, "")):
            told = "without keys, ask by address or as localhost: a name may be a page's trick"
            raise Problem(403, "host_not_allowed", told)

    def headers(self, request: BaseRequest) -> dict[str, str]:
        """Of each response; they let an invited page read it."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not self._invited(origin):
            return {hdrs.SERVER: "wattnap"}
        return {
            hdrs.SERVER: "wattnap",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "X-Request-Id, Wattnap-Id, Retry-After",
            hdrs.VARY: "Origin",
        }

    def preflight(self, request: BaseRequest) -> dict[str, str]:
        """What an invited page's browser wants to know before it sends the page's request."""
        asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        return {
            **self.headers(request),
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: asked,
            hdrs.ACCESS_CONTROL_MAX_AGE: "600",
        }

    def _invited(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins


def read_keys(path: Path) -> dict[bytes, str]:
    """Digest of each key -> the name of its client. Raises ConfigError, without telling a key."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "no text"
        raise ConfigError(f"http.api_keys_file: {path}: {reason}") from error
    keys: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None or len(found[2]) < LEAST_CHARS:
            raise ConfigError(
                f"http.api_keys_file: {path}, line {number}: a key is one word of at least"
                f" {LEAST_CHARS} characters, or NAME: KEY; `openssl rand -hex 24` makes one"
            )
        digest = _digest(found[2])
        keys[digest] = found[1] or f"key-{digest.hex()[:8]}"
    if not keys:
        raise ConfigError(f"http.api_keys_file: {path} has no key in it")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


@functools.lru_cache(maxsize=64)  # each of a client's requests names the same
def _is_here(host: str) -> bool:
    """An address, or localhost; with or without a port."""
    name = re.sub(r":\d*\Z", "", host).removeprefix("[").removesuffix("]")
    if name.lower() in {"localhost", ""}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
