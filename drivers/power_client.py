"""Asks wattnap-power, the helper that runs as root (drivers.power_helper)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from drivers.checkpoint import LIMIT_S, PATIENCE_S
from drivers.checkpointer import Checkpointer, Direct, Verb, judge, why_not
from drivers.errors import Denied, Died, DriverError, Refused, Unresponsive
from drivers.nvml_facts import driver_stays

SOCKET = Path("/run/wattnap-power.sock")
ANSWER_BYTES = 65536
GRACE_S = 5.0
"""On top of the helper's own limits, for systemd to start it."""


class Power:
    """The helper, as a Checkpointer."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, str(self._path))
                socket.send_fds(connection, [verb.encode()], list(pidfds))
            except OSError as error:
                raise Refused("wattnap-power", f"{self._path}: {error.strerror}") from error
            try:
                async with asyncio.timeout(LIMIT_S + PATIENCE_S + GRACE_S):
                    answer = await loop.sock_recv(connection, ANSWER_BYTES)
            except (TimeoutError, OSError) as error:
                raise Unresponsive("wattnap-power", f"no answer to {verb}: {error}") from error
        if not answer:
            raise Unresponsive("wattnap-power", f"no answer to {verb}")
        said = json.loads(answer)
        if "refused" in said:
            raise _refusal(verb, said["refused"], said.get("kind"))
        judge(verb, said["said"].encode(), (said["status"], ""))

    async def forget(self) -> None:
        """It keeps nothing: a process for each request."""


def _refusal(verb: Verb, why: str, kind: str | None) -> DriverError:
    """`kind`: as drivers.power_helper says; None: it did not, or is an older one."""
    if kind == "gone":
        return Died("wattnap-power", -9, why)
    if kind == "passing":
        return Refused("wattnap-power", why)
    if verb == "unpark":  # nobody else will put it back
        return Unresponsive("wattnap-power", f"stays parked: {why}")
    return Denied("wattnap-power", why)


def find_checkpointer() -> Checkpointer | None:
    """What parks engines here: the helper, where there is one, else our own right to do it.

    None where nothing can: drivers.checkpointer.why_not says why.
    """
    if why_not():
        return None
    return Power() if SOCKET.is_socket() else Direct(stays=driver_stays)
