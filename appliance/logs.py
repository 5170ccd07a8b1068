"""Where log lines go: to the journal as records with fields, or to a terminal for people.

In the journal a record has LOGGER and, where they are known, WATTNAP_REQUEST,
WATTNAP_ENGINE and WATTNAP_DEPTH: `journalctl -u wattnap WATTNAP_REQUEST=tea-1`. What
a line is about, it says by `extra={"request": …}`; what holds for all, by `about`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

JOURNAL = "/run/systemd/journal/socket"
NAME = "wattnap"
FIELDS = ("request", "engine", "depth")

# As syslog(3) numbers them.
PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def set_up(*, level: str = "info", journal: str = JOURNAL) -> None:
    """Log from now on. `level`: "debug", "info" or "warning". `journal`: where one listens."""
    least = logging.getLevelNamesMapping()[level.upper()]
    for_people = logging.StreamHandler(sys.stderr)
    for_people.setFormatter(Formatter(modules=least < logging.INFO))
    handler = JournalHandler(journal) if is_journal() else for_people
    logging.basicConfig(level=least, handlers=[handler])


@contextmanager
def about(tell: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Until it is left, each line is about what `tell` says, unless it knows better itself."""

    def add(record: logging.LogRecord) -> bool:
        for name, value in tell().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(add)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(add)


class Formatter(logging.Formatter):
    """For people: what is no ordinary line says so.

    `modules`: and where it comes from, and the millisecond.
    """

    def __init__(self, *, modules: bool) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self._modules = modules

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if self._modules:
            at, module = f"{record.asctime}.{int(record.msecs):03d}", f"{record.name}: "
        else:
            at, module = record.asctime, ""
        return f"{at} {level}{module}{record.message}"


class JournalHandler(logging.Handler):
    """Sends each record as one datagram (systemd's JOURNAL_NATIVE_PROTOCOL).

    What the journal does not take goes to stderr with its priority, which is the journal's, too.
    """

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # else basicConfig sets its own
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        priority = PRIORITIES[
            max((known for known in PRIORITIES if known <= record.levelno), default=logging.DEBUG)
        ]
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": NAME,
            "LOGGER": record.name,
        }
        fields |= {
            f"WATTNAP_{name.upper()}": str(getattr(record, name))
            for name in FIELDS
            if hasattr(record, name)
        }
        try:
            self._socket.sendto(datagram(fields), self._path)
        except OSError:  # nobody there, or too long for a datagram
            lines = (f"<{priority}>{line}\n" for line in message.splitlines())
            sys.stderr.writelines(lines)

    def close(self) -> None:
        self._socket.close()
        super().close()


def datagram(fields: Mapping[str, str]) -> bytes:
    """NAME=value, a line each; a value of several lines has its length before it."""
    parts = []
    for name, value in fields.items():
        told = value.encode(errors="surrogateescape")
        if b"\n" in told:
            parts += [name.encode(), b"\n", len(told).to_bytes(8, "little"), told, b"\n"]
        else:
            parts += [name.encode(), b"=", told, b"\n"]
    return b"".join(parts)


def is_journal() -> bool:
    """Whether stderr is the stream that systemd has connected to the journal, systemd.exec(5)."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
