"""Copies of the database: one before each change of its schema, the latest few of them kept.

`<state_dir>/backups/<UTC time>-<last migration>.db`, each a database of its own.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

FOLDER = "backups"
KEPT = 3


def before(path: Path, connection: sqlite3.Connection, schema: str) -> Path:
    """Copy the database behind `connection`, which is at `schema`, to a name of its own.

    Raises sqlite3.Error or OSError: then there is no such copy, and nothing has changed.
    """
    (at,) = connection.execute("SELECT strftime('%Y%m%dT%H%M%fZ', 'now')").fetchone()  # with ms
    folder = path.parent / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{at}-{schema}.db"
    copy(connection, made)
    for old in sorted(folder.glob("*.db"))[:-KEPT]:
        old.unlink()
    return made


def copy(connection: sqlite3.Connection, to: Path) -> None:
    """The whole database, as of now, as the one file `to`. Writers need not stop.

    Raises sqlite3.Error or OSError: then there is no `to`.
    """
    part = Path(f"{to}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as new:
            connection.backup(new)
            # A copy of a database in WAL mode is in it, too, and would need two more files.
            new.execute("PRAGMA journal_mode = DELETE")
        with part.open("rb+") as written:
            os.fsync(written.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.rename(to)
    sync(to.parent)


def sync(folder: Path) -> None:
    """What was renamed stays so if power is cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
