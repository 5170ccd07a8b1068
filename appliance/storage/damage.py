"""A damaged database is set aside, and begun anew with what can be read of the queue.

Damage is what SQLite says of the content of the file. A disk that cannot be read,
a file that is not ours to read, a lock: none of these is damage, and the file stays.

What is rescued: requests, waiting or ended, where their answers go, and answers
not yet delivered: what the appliance has promised. The ledger begins anew; the old
one is in the file that was set aside (docs/storage.md).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.storage.backup import sync
from appliance.storage.reading import connect
from appliance.storage.sql import Database

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""The most that a start may wait for the check: it reads the whole queue, bodies included."""

QUEUE = ("inbox", "reply_address", "outbox", "mqtt_unacked", "forgotten")
"""What is checked and rescued, referenced tables first."""

PARTS = ("", "-wal", "-shm")


class Damaged(Exception):
    """The content of the database cannot be trusted."""


def is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says where
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def inspect(path: Path) -> None:
    """Look at a database that nobody has open; nothing of it is changed.

    Reads the tables of the queue, and their indexes, for at most CHECK_S: what is
    damaged elsewhere is noticed when it is used.

    Raises Damaged, or sqlite3.Error if it cannot be read.
    """
    if not path.exists():
        return
    wal = Path(f"{path}-wal")
    if path.stat().st_size == 0 and wal.exists() and wal.stat().st_size > 0:
        # SQLite would take it for a new one, and delete what stands in the -wal file.
        raise Damaged("it is empty, and should not be")
    try:
        with closing(connect(path)) as connection:
            _check(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise


def _check(connection: sqlite3.Connection) -> None:
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    timer = threading.Timer(CHECK_S, connection.interrupt)
    timer.start()
    try:
        for table in QUEUE:
            if table in there:
                told = [row[0] for row in connection.execute(f"PRAGMA quick_check({table})")]
                if told != ["ok"]:
                    raise Damaged(str(told[0]).strip().splitlines()[-1])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        log.info("the queue is too large to be checked within %g s", CHECK_S)
    finally:
        timer.cancel()
        timer.join()


def replace(path: Path, begin: Callable[[Path], Database], why: str) -> None:
    """Set `path` aside, with its -wal and -shm; a new one is in its place, with the queue.

    Nobody has it open. `begin` makes an empty database. A crash in between leaves
    either the old one or what `finish` brings to its end.

    Raises sqlite3.Error or OSError: then everything is as it was.
    """
    log.error("%s is damaged: %s", path, why)
    new = Path(f"{path}.new")
    _remove(new)
    try:
        db = begin(new)
        try:
            _rescue(path, db)
            # Closing would do it too, but would not say that it could not.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()
    except BaseException:
        _remove(new)
        raise
    new.rename(_rescued(path))
    finish(path)


def finish(path: Path) -> None:
    """Put a rescued database, if there is one, into the place of the damaged one."""
    rescued = _rescued(path)
    if not rescued.exists():
        return
    made = datetime.fromtimestamp(rescued.stat().st_mtime, UTC)
    # Of the rescue, not of now: after a crash the rest of the parts gets the same name.
    aside = f"{path}.corrupt-{made:%Y%m%dT%H%M%S}.{made.microsecond // 1000:03}Z"
    for part in PARTS:
        if (found := Path(f"{path}{part}")).exists():
            found.rename(f"{aside}{part}")
    rescued.rename(path)
    sync(path.parent)
    log.error("the damaged database is set aside as %s; a new one is begun", aside)


def find_set_aside(path: Path) -> Path | None:
    """The latest one that is still there. Whoever has seen to it moves it away."""
    found = sorted(path.parent.glob(f"{path.name}.corrupt-*Z"))
    return found[-1] if found else None


def _rescued(path: Path) -> Path:
    """It is whole as soon as it has this name."""
    return Path(f"{path}.rescued")


def _remove(path: Path) -> None:
    for part in PARTS:
        Path(f"{path}{part}").unlink(missing_ok=True)


def _rescue(old: Path, new: Database) -> None:
    """Copy the queue, as far as it can be read and keeps the schema's rules."""
    if old.stat().st_size == 0:
        return  # even a connection that may only read would delete its -wal file
    try:
        source = connect(old)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        log.error("nothing of it can be read: %s", error)  # noqa: TRY400
        return
    # Half a character is no reason to lose the row; only ledger and log see it.
    source.text_factory = lambda text: text.decode(errors="replace")
    new.execute("BEGIN")
    with closing(source):
        for table in QUEUE:
            for row in _readable(source, table):
                _insert(new, table, row)
    new.execute("COMMIT")
    (told,) = new.query(
        "SELECT count(*) AS all_, ifnull(sum(state IN ('waiting', 'running')), 0) AS unfinished,"
        " (SELECT count(*) FROM outbox) AS undelivered FROM inbox"
    )
    log.error(
        "rescued: %(all_)d requests, %(unfinished)d of them unfinished,"
        " and %(undelivered)d answers to deliver; the ledger begins anew",
        told,
    )


def _readable(source: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:  # SQL values
    """Its rows from one end up to the damage, then from the other end; some come twice."""
    for direction in ("", " DESC"):
        try:
            rows = source.execute(f"SELECT * FROM {table} ORDER BY 1{direction}")  # noqa: S608
            names = [column[0] for column in rows.description]
            for row in rows:
                yield dict(zip(names, row, strict=True))
        except sqlite3.DatabaseError as error:
            # Without a code of its own: the table is missing, as far as can be seen.
            if not is_damage(error) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
        else:
            return


def _insert(new: Database, table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    try:
        new.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})", row)  # noqa: S608
    except sqlite3.IntegrityError as error:
        log.warning("a row of %s is left behind: %s", table, error)
