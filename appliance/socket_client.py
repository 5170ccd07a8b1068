"""Speaks to the daemon through its socket. Blocking, one call at a time: what a command needs."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from appliance.errors import ApplianceError, BadRequest, Unreachable

Event = dict[str, Any]  # JSON, docs/socket.md

LAST_EVENTS = frozenset(
    {"answer", "error", "status", "ok", "cancelled", "baked", "calibrated", "why"}
)


class Daemon:
    """A connection to the daemon that listens at `path`. Leaving it ends its live call.

    Raises Unreachable, on entering it or later, if nobody listens or answers; TimeoutError
    if a single answer takes longer than `timeout_s`.
    """

    def __init__(self, path: Path, *, timeout_s: float | None = None) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(str(self._path))
            except PermissionError as error:
                raise Unreachable(
                    f"{self._path} is not for this user; join the group that owns it,"
                    " see `ls -l` of it"
                ) from error
            except OSError as error:
                raise Unreachable(
                    f"no daemon listens at {self._path}; start it with `systemctl start wattnap`"
                    " or `wattnap run`, or name the configuration of the one that runs:"
                    " --config FILE, or WATTNAP_CONFIG"
                ) from error
            self._connection = connection
            self._lines = stack.enter_context(connection.makefile("rb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, op: str, **fields: object) -> Iterator[Event]:
        """Everything that one op causes, in order, to its last event.

        Fields that are None are left out. Raises what the daemon reports, as
        the same ApplianceError.
        """
        told = {"op": op} | {k: v for k, v in fields.items() if v is not None}
        try:
            line = json.dumps(told).encode() + b"\n"
        except RecursionError as error:
            raise BadRequest("it is nested too deep") from error
        # A daemon that refuses a line may close before it has read it all.
        with contextlib.suppress(BrokenPipeError):
            self._connection.sendall(line)
        while True:
            event = self._event()
            name = event["event"]
            if name == "error":
                raise reported(event["error"])
            yield event
            if name in LAST_EVENTS or (name == "queued" and not fields.get("wait")):
                return

    def ask(self, op: str, **fields: object) -> Event:
        """The last event of an op."""
        *_, last = self.call(op, **fields)
        return last

    def _event(self) -> Event:
        try:
            line = self._lines.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise Unreachable(
                "the daemon closed the connection; `journalctl -u wattnap` may tell why"
            )
        event: Event = json.loads(line)
        return event


def reported(error: dict[str, Any]) -> ApplianceError:
    """The error that `ApplianceError.as_dict` was called on, as far as it was told."""
    found = _by_code(ApplianceError).get(error["code"], ApplianceError)
    # Constructors take facts and make the sentence; here the sentence is all there is.
    made = found.__new__(found, error["message"])
    made.retry_after_s = error.get("retry_after_s")
    return made


def _by_code(kind: type[ApplianceError]) -> dict[str, type[ApplianceError]]:
    found = {kind.code: kind}
    for below in kind.__subclasses__():
        found |= _by_code(below)
    return found
