"""Looks at the HTTP door from outside: who listens there, and who may read its keys."""

from __future__ import annotations

import contextlib
import stat
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from appliance.config_http import Http
from appliance.errors import ConfigError

LIMIT_S = 1.0
CREDENTIALS = "/run/credentials/"
"""There while the service runs, and for its user alone."""


@dataclass(frozen=True, slots=True)
class HttpSeen:
    """What was seen of a door that is configured.

    listens   "wattnap", "another" or "nobody"
    keys      why they cannot be used, in words; "" if they can, or may not be looked at
    readable  the file of keys may be read by every user
    """

    listens: str = "wattnap"
    keys: str = ""
    readable: bool = False


def look(config: Http) -> HttpSeen | None:
    """None: there is to be no door."""
    return HttpSeen(_listens(config), *_keys(config.api_keys_file)) if config.listen else None


def _listens(config: Http) -> str:
    address = config.address
    assert address is not None
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
    connection = HTTPConnection(host, address.port, timeout=LIMIT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            server = connection.getresponse().headers.get("Server")
        except ConnectionRefusedError:
            return "nobody"
        except (OSError, HTTPException):
            return "another"
    return "wattnap" if server == "wattnap" else "another"


def _keys(name: str) -> tuple[str, bool]:
    from appliance.doors.http_gate import read_keys

    if not name:
        return "", False
    path = Path(name)
    try:
        readable = bool(path.stat().st_mode & stat.S_IROTH)
        read_keys(path)
    except PermissionError:
        return "", False
    except FileNotFoundError:
        return "" if name.startswith(CREDENTIALS) else f"{path}: there is no such file", False
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return "", readable
        return str(error), readable
    return "", readable
