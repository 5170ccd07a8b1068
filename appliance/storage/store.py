"""Opens, configures and migrates the database; one writer thread, one reader.

The loop never touches SQLite: a commit waits for the disk, 2 ms on an SSD and
100 ms on an SD card. Writes that arrive while one commit is under way share the
next one. A write's future is resolved after its COMMIT, never before.

What a full disk, a lock or a failing disk refuses is told and changes nothing. A
damaged database is another matter: see damage.py, and Store.damaged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from appliance.errors import ConfigError, StorageFailed
from appliance.storage import backup, damage, wal
from appliance.storage.reading import connect, shipped
from appliance.storage.sql import Database, Migrations

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Database], T]

PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;  -- NORMAL may lose the last commits when power is cut
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 5000;
PRAGMA wal_autocheckpoint = 4000;  -- pages; see appliance.storage.wal
PRAGMA journal_size_limit = 16777216;
"""

MAX_BATCH = 256
"""Writes that share one commit: bounds how long the first of them waits."""

OF_ONE_WRITE = (
    *(sqlite3.IntegrityError, sqlite3.DataError),
    *(sqlite3.ProgrammingError, sqlite3.InterfaceError),
)
"""SQLite's errors that say nothing about the disk or the database."""

NO_ROOM_BYTES = 128 * 1024
"""So little free that an error which does not say why is one of a full disk."""


def migrations(files: Sequence[Path] | None = None) -> Migrations:
    """The numbered `.sql` files, ours or these; each in one transaction with its record."""
    found = Migrations("wattnap")
    for file in shipped() if files is None else files:
        found(name=file.stem)(_runs(file.read_text()))
    return found


def _runs(sql: str) -> Callable[[Database], None]:
    def apply(db: Database) -> None:
        # executescript() would commit first; the migration and its record are one commit.
        statement = ""
        for line in sql.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                db.execute(statement)
                statement = ""

    return apply


def open_database(path: Path) -> Database:
    """Open, configure and migrate; one that has a schema already is copied before.

    Raises ConfigError if it was written by a newer version, Damaged, or sqlite3.Error
    if it cannot be read; then it is untouched.
    """
    damage.inspect(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Commits are ours alone: sqlite3 opens no transaction by itself.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        known, db = migrations(), Database(connection, execute_plugins=False)
        applied = {migration.name for migration in known.applied(db)}
        pending = {migration.name for migration in known.pending(db)}
        if newer := sorted(applied - {file.stem for file in shipped()}):
            raise ConfigError(
                f"{path}: written by a newer wattnap (it knows {newer[-1]}); "
                "install that version again, or move the file away to start a new one"
            )
        connection.executescript(PRAGMAS)
        if applied and pending:
            log.info(
                "%s: changing its schema; a copy is %s",
                path,
                backup.before(path, connection, max(applied)),
            )
        known.apply(db)
    except BaseException:
        connection.close()
        raise
    return db


@dataclass(slots=True, eq=False)
class _Write(Generic[T]):
    work: Work[T]
    future: asyncio.Future[T]
    result: T | None = None
    error: Exception | None = None


class Store:
    """The daemon's database. `open()` it, `write` and `read` from the loop, `close()` it.

    damaged    set once damage is seen: nothing is written from then on, and whoever
               runs the daemon is to end it; `close` sees to the rest
    set_aside  an earlier, damaged database that nobody has taken away yet
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = asyncio.Event()
        self.set_aside: Path | None = None
        self._damage = ""
        self._full = False
        self._wal = wal.WalKeeper(path, self._failure)
        self._writes: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading: Database | None = None
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Open and migrate; a damaged one is set aside first.

        Raises ConfigError or StorageFailed.
        """
        self._loop = asyncio.get_running_loop()
        db = await self._loop.run_in_executor(self._reader, self._open)
        self._writer = threading.Thread(target=self._write_all, args=(db,), name="store-writer")
        self._writer.start()
        self._wal.start()

    def _open(self) -> Database:
        try:
            damage.finish(self.path)
            try:
                db = open_database(self.path)
            except damage.Damaged as found:
                damage.replace(self.path, open_database, str(found))
                db = open_database(self.path)
            self._reading = Database(connect(self.path), execute_plugins=False)
            self.set_aside = damage.find_set_aside(self.path)
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(self._explain(error)) from error
        return db

    def write(self, work: Work[T]) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future is resolved after the commit.

        It runs to its end even if nobody awaits it any more. `work` must touch
        nothing but the database: it runs in the writer's thread, and anew if the
        disk was full and a little room could be made.

        The future raises what `work` raised (and then it changed nothing), or
        StorageFailed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._writes.put(_Write(work, future))
        return future

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a connection that cannot write."""
        assert self._reading is not None
        try:
            return await self._loop.run_in_executor(self._reader, work, self._reading)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    async def close(self) -> None:
        """Let what was written be committed, then close. Idempotent.

        Then the database is one file, as nobody else has it open. One in which damage
        was seen is set aside as it is.
        """
        closing = [self._close_reader, self._close_writer]
        # Who closes last empties the -wal file into the database. A reader cannot.
        for close in closing[::-1] if self._damage else closing:
            await close()
        self._reader.shutdown()
        if self._damage:
            why, self._damage = self._damage, ""
            await self._loop.run_in_executor(None, self._replace, why)

    async def _close_reader(self) -> None:
        if self._reading is not None:
            await self._loop.run_in_executor(self._reader, self._reading.close)
            self._reading = None

    async def _close_writer(self) -> None:
        if self._writer is not None:
            await self._loop.run_in_executor(None, self._wal.close)
            self._writes.put(None)
            await self._loop.run_in_executor(None, self._writer.join)
            self._writer = None

    def _replace(self, why: str) -> None:
        try:
            damage.replace(self.path, open_database, why)
        except (sqlite3.Error, OSError) as error:
            log.error("it cannot be set aside yet: %s", self._explain(error))  # noqa: TRY400

    def _write_all(self, db: Database) -> None:
        """The writer's thread."""
        open_ = True
        while open_:
            batch = [self._writes.get()]
            while len(batch) < MAX_BATCH and not self._writes.empty():
                batch.append(self._writes.get())
            open_ = None not in batch
            writes = [write for write in batch if write is not None]
            if writes:
                error = self._commit_or_make_room(db, writes)
                if isinstance(error, sqlite3.Error):
                    error = self._failure(error)
                self._loop.call_soon_threadsafe(_resolve, writes, error)
                self._wal.committed(db.conn)
        db.close()

    def _commit_or_make_room(self, db: Database, writes: list[_Write[Any]]) -> Exception | None:
        """Why nothing of it was committed; None: it was.

        On a full disk the -wal file may still be emptied into pages that the database
        has, and be written from its beginning. That is tried once, when it becomes
        full, and done once, when there is room again: else all of the new room might
        go to the -wal file, and what stands there would never find any.
        """
        if self._damage:
            return sqlite3.DatabaseError(self._damage)
        error = _commit(db, writes)
        if is_full(error) != self._full:
            was_full, self._full = self._full, is_full(error)
            if (stays := wal.empty(db.conn)) is not None:
                self._failure(stays)
            if not was_full and not self._damage:
                error = _commit(db, writes)
                self._full = is_full(error)
        return error

    def _failure(self, error: sqlite3.Error) -> StorageFailed:
        """What the callers hear of it. Damage is noted: from any thread."""
        if damage.is_damage(error) and not self._damage:
            self._damage = str(error)
            log.error("%s: %s", self.path, error)
            self._loop.call_soon_threadsafe(self.damaged.set)
        return StorageFailed(self._explain(error))

    def _explain(self, error: Exception) -> str:
        """In words that say what to do."""
        folder = self.path.parent
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._damage or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return f"{self.path} is damaged; the next start sets it aside and begins a new one"
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return f"{self.path} is locked by another program; let that one end its transaction"
        if code == sqlite3.SQLITE_FULL or _has_no_room(folder):
            return f"the disk is full; make room in {folder}, all else goes on by itself"
        return f"{self.path}: {error}; see to the disk, and to the file's owner and mode"


def is_full(error: Exception | None) -> bool:
    return isinstance(error, sqlite3.Error) and (
        getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    )


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < NO_ROOM_BYTES
    except OSError:
        return False


def _is_its_own(error: Exception) -> bool:
    """A write failed for what it is; else the disk or the database is to blame, for all of them.

    A sender's text that cannot be stored (UnicodeEncodeError) must not fail its neighbours.
    """
    return not isinstance(error, sqlite3.Error) or isinstance(error, OF_ONE_WRITE)


def _work_alone(db: Database, write: _Write[Any]) -> None:
    """What fails is undone, and the transaction goes on."""
    db.conn.execute("SAVEPOINT one")
    try:
        write.error, write.result = None, write.work(db)
    except Exception as error:
        if not _is_its_own(error):
            raise
        write.error = error
        db.conn.execute("ROLLBACK TO one")
    db.conn.execute("RELEASE one")


def _commit(db: Database, writes: list[_Write[Any]]) -> Exception | None:
    """One transaction for all; one that fails spoils no other.

    Returns why nothing of it was committed.
    """
    connection = db.conn
    try:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                write.error, write.result = None, write.work(db)
        except Exception as error:
            if not _is_its_own(error):
                raise
            # Seldom: so they do not all pay for what would undo one of them alone.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                _work_alone(db, write)
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear it
        # If that fails, too, the next batch cannot begin, and comes here again.
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return error
    return None


def _resolve(writes: list[_Write[Any]], failure: Exception | None) -> None:
    """`failure`: of all of them; else each has its own end."""
    for write in writes:
        if write.future.cancelled():
            continue
        if (error := failure or write.error) is not None:
            write.future.set_exception(error)
        else:
            write.future.set_result(write.result)
