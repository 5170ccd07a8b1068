"""Asks wattnap-power, the helper that runs as root (drivers.power_helper)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from drivers.checkpoint import LIMIT_S, PATIENCE_S
from drivers.checkpointer import Checkpointer, Direct, Verb, judge, why_not
from drivers.errors import Denied, Died, DriverError, NotPermitted, Refused, Unresponsive
from drivers.nvml_facts import driver_stays

log = logging.getLogger(__name__)

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


class OwnFirst:
    """By our own right as long as that goes, and from then on by the helper.

    The helper is a program for each request, and asks systemd who calls: some tenths of a
    second in a wake that takes half of one. But whether a sandbox, or Yama, lets us do it
    ourselves, only trying tells (docs/decisions/0040-own-first.md).
    """

    def __init__(self, own: Checkpointer, helper: Checkpointer) -> None:
        self._way, self._helper = own, helper

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        try:
            await self._way.move(verb, pidfds)
        except NotPermitted as error:
            if self._way is self._helper:
                raise
            await self._leave_it_to_the_helper(error)
            await self._way.move(verb, pidfds)
        except Unresponsive as error:
            await self._leave_it_to_the_helper(error)  # these are to be stopped
            raise

    async def forget(self) -> None:
        await self._way.forget()

    async def _leave_it_to_the_helper(self, error: DriverError) -> None:
        if self._way is not self._helper:
            log.info("wattnap-power parks from now on: %s", error)
            await self._way.forget()
            self._way = self._helper


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
    """What parks engines here: our own right to do it, then the helper, where there is one.

    None where nothing can: drivers.checkpointer.why_not says why.
    """
    if why_not():
        return None
    own = Direct(stays=driver_stays)
    return OwnFirst(own, Power()) if SOCKET.is_socket() else own
