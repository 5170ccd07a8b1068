"""The database for whoever only looks: the daemon itself, or people, with it running or stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import Unreachable

if TYPE_CHECKING:
    from appliance.storage.sql import Database


def shipped() -> list[Path]:
    """The migrations that this version knows, in order."""
    return sorted(Path(__file__).with_name("migrations").glob("*.sql"))


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """As `opened`, with sqlite-utils around it, which takes 80 ms to import."""
    from appliance.storage.sql import Database

    with opened(path) as connection:
        yield Database(connection, execute_plugins=False)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database of this version. Nothing can be written through it.

    Raises Unreachable, on entering or inside, if there is none, or none for this user.
    """
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
            _check_version(path, connection)
            yield connection
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise Unreachable(f"{path}: another program has locked it; try again") from error
        raise Unreachable(f"{path}: {error}; may this user read it?") from error
    except sqlite3.DatabaseError as error:
        raise Unreachable(
            f"{path}: {error}; the daemon sets a damaged database aside when it next starts"
        ) from error


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    """Raises Unreachable: the views would not be those that are asked for."""
    try:
        found = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = 'wattnap'"
        )
        applied = {name for (name,) in found}
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise
        raise Unreachable(f"{path} is no database of wattnap: {error}") from error
    known = {file.stem for file in shipped()}
    if newer := sorted(applied - known):
        raise Unreachable(
            f"{path}: written by a newer wattnap (it knows {newer[-1]}); use that version's command"
        )
    if older := sorted(known - applied):
        raise Unreachable(
            f"{path}: written by an older wattnap (it lacks {older[0]}); start the daemon of this"
            " version, which brings it up to date"
        )


def is_busy(error: sqlite3.Error) -> bool:
    """A lock is in the way, which will pass."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says where
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


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
        if not isinstance(error, sqlite3.OperationalError) or is_busy(error):
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
