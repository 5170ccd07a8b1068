"""Where log lines go: the journal with their priority, or a terminal for people."""

from __future__ import annotations

import logging
import os
import sys

# sd-daemon(3): "<N>" before a line on stderr is its syslog priority.
PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalFormatter(logging.Formatter):
    """One record, each of its lines with the priority: the journal adds time and unit itself."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        level = max((known for known in PRIORITIES if known <= record.levelno), default=10)
        prefix = f"<{PRIORITIES[level]}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up(*, verbose: bool) -> None:
    """Log to stderr from now on; `verbose` includes debugging."""
    handler = logging.StreamHandler(sys.stderr)
    if is_journal():
        handler.setFormatter(JournalFormatter())
    else:
        plain = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
        handler.setFormatter(logging.Formatter(plain, "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def is_journal() -> bool:
    """Whether stderr is the stream that systemd has connected to the journal, systemd.exec(5)."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
