"""The database for whoever only looks: the daemon itself, or people, with it running or stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import Unreachable

if TYPE_CHECKING:
    from sqlite_utils import Database


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """Nothing can be written through it.

    Raises Unreachable, on entering or inside, if there is none, or none for this user.
    """
    from sqlite_utils import Database

    try:
        path.stat()
    except PermissionError as error:
        raise Unreachable(f"{path} is not for this user; try it with `sudo -u wattnap`") from error
    except OSError as error:
        raise Unreachable(
            f"no database at {path}: the daemon has not run with this configuration yet;"
            " name another with --config"
        ) from error
    try:
        connection = connect(path)
        try:
            yield Database(connection, execute_plugins=False)
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise Unreachable(f"{path}: {error}; may this user read it?") from error
    except sqlite3.DatabaseError as error:
        raise Unreachable(
            f"{path}: {error}; the daemon sets a damaged database aside when it next starts"
        ) from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for one thread at a time. Never locks a writer out.

    Raises sqlite3.DatabaseError: OperationalError if it cannot be read, itself if it is damaged.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("SELECT 1 FROM sqlite_schema")
    except sqlite3.DatabaseError as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError):
            raise
        # In WAL mode even a reader needs the -wal and -shm files, and after a clean
        # stop there are none; whoever cannot make them may read the rest as it is
        # (SQLite, "Write-Ahead Logging", section 5, read-only databases).
        if Path(f"{path}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False)
    return connection


def copy(path: Path, to: Path) -> None:
    """The whole database, with what still stands in its -wal file, as the one file `to`."""
    for of_old in ("", "-wal", "-shm"):
        Path(f"{to}{of_old}").unlink(missing_ok=True)
    with reading(path) as database:
        database.execute("VACUUM INTO ?", [str(to)])
