"""A private Mosquitto for the demo: on the loopback, with a password, in a folder of its own.

The settings are those that we recommend for a broker that is not to lose
anything (docs/mqtt.md).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from appliance.demo.child import Child, ChildFailed, running

USERNAME = "demo"
START_TIMEOUT_S = 10.0
ATTEMPTS = 3

# `autosave_…`: with its defaults, a killed broker loses what it acknowledged in
# the last half hour; `max_queued_messages`: it drops the 1001st without a word. Not
# 0, for no limit: with that, 2.0.11 cuts any client whose publish it denies.
SETTINGS = """\
listener {port} 127.0.0.1
allow_anonymous false
password_file {folder}/passwords
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 1000000
set_tcp_nodelay true
log_dest stderr
"""


class Broker(Struct, frozen=True, kw_only=True):
    """Where it listens, and for whom. `password_file` holds `password`."""

    host: str
    port: int
    username: str
    password: str
    password_file: Path
    child: Child


@asynccontextmanager
async def broker(program: Path, folder: Path) -> AsyncIterator[Broker]:
    """A broker that clients can connect to; ended when the context is left.

    Raises ChildFailed if it does not start.
    """
    password, password_file = _make_password(folder)
    async with contextlib.AsyncExitStack() as stack:
        port, child = await _start(program, folder, stack)
        yield Broker(
            host="127.0.0.1",
            port=port,
            username=USERNAME,
            password=password,
            password_file=password_file,
            child=child,
        )


async def _start(
    program: Path, folder: Path, stack: contextlib.AsyncExitStack
) -> tuple[int, Child]:
    """Somebody may take a port between our look and the broker's: then try another."""
    for attempt in range(1, ATTEMPTS + 1):
        port = _free_port()
        settings = folder / "mosquitto.conf"
        settings.write_text(SETTINGS.format(port=port, folder=folder) + _user())
        child = await stack.enter_async_context(
            running("mosquitto", [str(program), "-c", str(settings)], folder / "mosquitto.log")
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await child.said(" running")
        except TimeoutError as error:
            raise ChildFailed(f"{program} did not start in {START_TIMEOUT_S:.0f} s") from error
        except ChildFailed as error:
            if attempt == ATTEMPTS or "in use" not in str(error):
                raise
        else:
            return port, child
    raise AssertionError("the last attempt returns or raises")


def hashed(password: str) -> str:
    """As mosquitto_passwd writes it: $7$ is PBKDF2 with SHA-512 (mosquitto 2, password_mosq.c)."""
    rounds, salt = 101, secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 64)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _make_password(folder: Path) -> tuple[str, Path]:
    """One for us, and what the broker may know of it, in a folder for this user alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password, file = secrets.token_urlsafe(16), folder / "password"
    _write_private(file, password)
    _write_private(folder / "passwords", f"{USERNAME}:{hashed(password)}\n")
    return password, file


def _user() -> str:
    # Started by root it becomes user "mosquitto", who cannot enter our folder.
    return "user root\n" if os.geteuid() == 0 else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
