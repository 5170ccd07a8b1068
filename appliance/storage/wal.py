"""Empties the -wal file while others go on writing to it.

SQLite would do it inside every so many-th commit, whose writes then wait for two
fsyncs more, each of up to 100 ms on an SD card. A second connection does it beside
them. Only while they never pause can it not come to an end; so SQLite is still told
to do it, but at four times the size.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

ROWS = 1000
"""Changes to the database after which it is time: about as many pages."""


class WalKeeper:
    """A thread and a connection of its own, from start() to close(). Never raises.

    `failed` is told, in that thread, what keeps it from its work: it may be the first to
    see that the file is damaged.
    """

    def __init__(self, path: Path, failed: Callable[[sqlite3.Error], object]) -> None:
        self._path, self._failed = path, failed
        self._rows = 0
        self._closing = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-wal")

    def start(self) -> None:
        self._thread.start()

    def committed(self, connection: sqlite3.Connection) -> None:
        """The writer has committed something, and is between two transactions."""
        if connection.total_changes >= self._rows + ROWS:
            self._rows = connection.total_changes
            self._due.set()

    def close(self) -> None:
        """Return when its connection is closed. Idempotent."""
        self._closing = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None)
        except sqlite3.Error as error:
            log.warning("the -wal file is left to the commits: %s", error)
            return
        try:
            while True:
                self._due.wait()
                self._due.clear()
                if self._closing:
                    return
                if (stays := empty(connection)) is not None:
                    self._failed(stays)
        finally:
            connection.close()


def empty(connection: sqlite3.Connection) -> sqlite3.Error | None:
    """As far as that is possible without waiting for anybody. Returns why it is not at all."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error as error:
        log.debug("the -wal file stays as it is: %s", error)
        return error
    return None
