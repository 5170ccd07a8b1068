"""What the appliance says when it cannot, once, for every front door.

ApplianceError                                                   CLI exit  HTTP
├── CommandError    what was typed, or this machine, must change: no door tells it
│   ├── ConfigError     the operator must change a file             78       -
│   ├── ModelUnusable   it is no model, or not that of its digests  65       -
│   ├── DataUnusable    a file that it was given is no such file    65       -
│   ├── NotForThisUser  it takes another user; the message says which 77     -
│   ├── Unreachable     the daemon is not running, or not for this user 69   -
│   ├── NotInstalled    a library that only some commands need      69       -
│   ├── NotFitted       two loads gave no line for a meter          65       -
│   └── InUse           another daemon has the state directory      75       -
├── BadRequest      the sender must change the request              65      400
│   ├── TooLarge    … make it smaller                               65      413
│   ├── UnknownModel … name a model that is configured              65      404
│   ├── Loop        … stop answering its own answers                65      400
│   └── Conflict    … choose another id: this one has another body  65      409
├── Gone            answered long ago; only the id is still known   65      410
├── InboxFull       try again after `retry_after_s`                 75      429
├── StorageFailed   not accepted: the disk would not take it        75      503
├── WakeFailed      the engine would not start                      75      503
├── BakeFailed      it was not prepared; requests are served all the same 70   500
├── CalibrationFailed it was not measured to its end; what was measured is kept 70 500
├── Interrupted     the daemon is stopping; accepted ones are kept  75      503
├── Expired         nobody waits for it any more                    75      504
├── Cancelled       its sender took it back                         75      499
├── EngineRefused   the engine says what is wrong with it           65      400
└── GaveUp          attempted too often                             70      500
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

MESSAGE_CHARS = 1000
"""A message may quote what was sent; more of it than that helps nobody."""


class ApplianceError(Exception):
    """Base of everything a front door may have to report."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_status: ClassVar[int] = os.EX_SOFTWARE
    retry_after_s: float | None = None

    def as_dict(self) -> dict[str, Any]:  # JSON
        """`{"code", "message"}`, and `retry_after_s` where trying again may help."""
        message = str(self)
        if len(message) > MESSAGE_CHARS:
            message = message[:MESSAGE_CHARS] + " …"
        told: dict[str, Any] = {"code": self.code, "message": message}
        if self.retry_after_s is not None:
            told["retry_after_s"] = self.retry_after_s
        return told


class CommandError(ApplianceError):
    """Whoever typed the command reads it; nobody who asks a running daemon ever does."""

    code = "command"


class ConfigError(CommandError):
    """The configuration cannot be used. Names the file, the key and the remedy."""

    code, exit_status = "config", os.EX_CONFIG


class ModelUnusable(CommandError):
    """A model cannot be added or used. What was served is served."""

    code, exit_status = "model_unusable", os.EX_DATAERR


class DataUnusable(CommandError):
    """A file that a command was given cannot be read as what it should be. Names it."""

    code, exit_status = "data_unusable", os.EX_DATAERR


class NotForThisUser(CommandError):
    """What was asked for takes another user. Nothing has changed."""

    code, exit_status = "not_permitted", os.EX_NOPERM


class Unreachable(CommandError):
    """The daemon's socket does not answer."""

    code, exit_status = "unreachable", os.EX_UNAVAILABLE


class NotInstalled(CommandError):
    """A library that only some commands need is not there. The message says how to get it."""

    code, exit_status = "not_installed", os.EX_UNAVAILABLE


class NotFitted(CommandError):
    """A meter could not be fitted. The message says what to do otherwise; nothing has changed."""

    code, exit_status = "not_fitted", os.EX_DATAERR


class BadRequest(ApplianceError):
    """The request can never be served as it is. Nothing was accepted.

    `field`: the path of the one that is wrong; None: it is about no single one
    """

    code, http_status, exit_status = "bad_request", 400, os.EX_DATAERR
    field: str | None = None

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(BadRequest):
    """More bytes than a door takes."""

    code, http_status = "too_large", 413

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes; at most {limit_bytes} are taken")


class UnknownModel(BadRequest):
    """No engine of this name is configured."""

    code, http_status = "unknown_model", 404

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(f"model {model!r} is not known here; known: {', '.join(known)}")


class Loop(BadRequest):
    """The prompt is an answer of an answer: somebody forwards what we say to us."""

    code = "loop"

    def __init__(self, hops: int, limit: int) -> None:
        super().__init__(f"this prompt has been through here {hops} times; {limit} is the limit")


class Conflict(BadRequest):
    """The id is taken by a request with another body, which is untouched."""

    code, http_status = "conflict", 409

    def __init__(self, id: str) -> None:
        super().__init__(f"id {id!r} belongs to another request; choose a new one")


class Gone(ApplianceError):
    """The id is known, its answer is no longer kept. It is not run again."""

    code, http_status, exit_status = "gone", 410, os.EX_DATAERR

    def __init__(self, id: str) -> None:
        super().__init__(f"request {id!r} ended, and its answer is no longer kept")


class InboxFull(ApplianceError):
    """Too much waits already. Nothing was accepted."""

    code, http_status, exit_status = "inbox_full", 429, os.EX_TEMPFAIL

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(f"{limit} requests are waiting; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class InUse(CommandError):
    """Another daemon has the state directory. Nothing of it was touched."""

    code, exit_status = "in_use", os.EX_TEMPFAIL

    def __init__(self, folder: Path, pid: int | None) -> None:
        by = "another daemon" if pid is None else f"another daemon, process {pid}"
        super().__init__(
            f"state_dir: {folder} is in use by {by}; stop that one first,"
            " or give this one a state_dir of its own"
        )


class StorageFailed(ApplianceError):
    """The database would not commit. Nothing was accepted. `reason` says what to do."""

    code, http_status, exit_status = "storage", 503, os.EX_TEMPFAIL

    def __init__(self, reason: str, retry_after_s: float = 30.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class WakeFailed(ApplianceError):
    """The engine would not start. A durable request is kept and tried again."""

    code, http_status, exit_status = "wake_failed", 503, os.EX_TEMPFAIL

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(f"the engine would not start: {reason}")
        self.retry_after_s = retry_after_s


class BakeFailed(ApplianceError):
    """The first start was not prepared. Whoever asks next waits for what was not done."""

    code = "bake_failed"


class CalibrationFailed(ApplianceError):
    """The ladder was not measured to its end. What was measured is kept."""

    code = "calibration_failed"


class Interrupted(ApplianceError):
    """The daemon is stopping. What it accepted is run after the next start."""

    code, http_status, exit_status = "interrupted", 503, os.EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__("the daemon is stopping; try again when it is back")
        self.retry_after_s = 10.0


class Expired(ApplianceError):
    """Its deadline passed before it could be answered."""

    code, http_status, exit_status = "expired", 504, os.EX_TEMPFAIL

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"not answered within its {deadline_s:g} s")


class Cancelled(ApplianceError):
    """Its sender, or the operator, took it back."""

    code, http_status, exit_status = "cancelled", 499, os.EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__("cancelled")


class EngineRefused(ApplianceError):
    """The engine read it and said no. It would say so again."""

    code, http_status, exit_status = "engine_refused", 400, os.EX_DATAERR

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the engine refused it ({status}): {message}")
        self.status = status


class GaveUp(ApplianceError):
    """Each attempt ended with a failure of the engine."""

    code, http_status, exit_status = "gave_up", 500, os.EX_SOFTWARE

    def __init__(self, attempts: int, reason: str) -> None:
        super().__init__(f"given up after {attempts} attempts; the last one: {reason}")


def http_status_of(code: str) -> int:
    """The status of an error of which only the code is known: it is in the database."""
    kinds: list[type[ApplianceError]] = [ApplianceError]
    for kind in kinds:
        if kind.code == code:
            return kind.http_status
        kinds += kind.__subclasses__()
    return ApplianceError.http_status


def alone_in(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a TaskGroup has wrapped: one ApplianceError, if there is nothing worse; else all."""
    told, rest = group.split(ApplianceError)
    if told is None or rest is not None:
        return group
    first: BaseException = told
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
