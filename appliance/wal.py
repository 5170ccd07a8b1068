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
from pathlib import Path

log = logging.getLogger(__name__)

ROWS = 1000
"""Changes to the database after which it is time: about as many pages."""


class WalKeeper:
    """A thread and a connection of its own, from start() to close(). Never raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
                empty(connection)
        finally:
            connection.close()


def empty(connection: sqlite3.Connection) -> None:
    """As far as that is possible without waiting for anybody."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error as error:
        log.debug("the -wal file stays as it is: %s", error)
