"""Opens, configures and migrates the database; one writer thread, one reader.

The loop never touches SQLite: a commit waits for the disk, 2 ms on an SSD and
100 ms on an SD card. Writes that arrive while one commit is under way share the
next one. A write's future is resolved after its COMMIT, never before.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlite_utils import Database, Migrations

from appliance.errors import ApplianceError, ConfigError, StorageFailed
from appliance.reading import connect

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Database], T]

PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;  -- NORMAL may lose the last commits when power is cut
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 5000;
PRAGMA journal_size_limit = 16777216;
"""

MAX_BATCH = 256
"""Writes that share one commit: bounds how long the first of them waits."""


def migrations() -> Migrations:
    """The numbered `.sql` files, each applied in one transaction with its record."""
    found = Migrations("wattnap")
    for file in sorted(Path(__file__).with_name("migrations").glob("*.sql")):
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
    """Open, configure and migrate.

    Raises ConfigError if it was written by a newer version; then it is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Commits are ours alone: sqlite3 opens no transaction by itself.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        known, db = migrations(), Database(connection, execute_plugins=False)
        names = {migration.name for migration in known.pending(db)}
        names |= {migration.name for migration in known.applied(db)}
        shipped = {file.stem for file in Path(__file__).with_name("migrations").glob("*.sql")}
        if newer := sorted(names - shipped):
            raise ConfigError(
                f"{path}: written by a newer wattnap (it knows {newer[-1]}); "
                "install that version again, or move the file away to start a new one"
            )
        connection.executescript(PRAGMAS)
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
    error: BaseException | None = None


class Store:
    """The daemon's database. `open()` it, `write` and `read` from the loop, `close()` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writes: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading: Database | None = None
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Open and migrate. Raises ConfigError or StorageFailed."""
        self._loop = asyncio.get_running_loop()
        db = await self._loop.run_in_executor(self._reader, self._open)
        self._writer = threading.Thread(target=self._write_all, args=(db,), name="store-writer")
        self._writer.start()

    def _open(self) -> Database:
        try:
            db = open_database(self.path)
            self._reading = Database(connect(self.path), execute_plugins=False)
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(f"{self.path}: {error}") from error
        return db

    def write(self, work: Work[T]) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future is resolved after the commit.

        It runs to its end even if nobody awaits it any more. `work` must touch
        nothing but the database: it runs in the writer's thread.

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
            raise StorageFailed(str(error)) from error

    async def close(self) -> None:
        """Let what was written be committed, then close. Idempotent.

        Then the database is one file, as nobody else has it open.
        """
        # The writer goes last: a reader cannot empty the -wal file.
        if self._reading is not None:
            await self._loop.run_in_executor(self._reader, self._reading.close)
            self._reading = None
        self._reader.shutdown()
        if self._writer is not None:
            self._writes.put(None)
            await self._loop.run_in_executor(None, self._writer.join)
            self._writer = None

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
                _commit(db, writes)
                self._loop.call_soon_threadsafe(_resolve, writes)
        db.close()


def _commit(db: Database, writes: list[_Write[Any]]) -> None:
    """One transaction for all, a savepoint for each: one that fails spoils no other."""
    connection = db.conn
    try:
        connection.execute("BEGIN IMMEDIATE")
        for write in writes:
            connection.execute("SAVEPOINT one")
            try:
                write.result = write.work(db)
            except (ApplianceError, sqlite3.IntegrityError) as error:
                write.error = error
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear it
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        failure = StorageFailed(str(error)) if isinstance(error, sqlite3.Error) else error
        for write in writes:
            write.error = failure


def _resolve(writes: list[_Write[Any]]) -> None:
    for write in writes:
        if write.future.cancelled():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)
