"""The store: group commit, isolation of failures, what a SIGKILL and a newer schema leave."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils import Database

from appliance.errors import ConfigError, Gone, StorageFailed, Unreachable
from appliance.storage.reading import reading
from appliance.storage.store import Store, open_database

ACCEPT_FOREVER = """
import asyncio, sys
from pathlib import Path
from functools import partial
from appliance.storage import inbox
from appliance.request import parse
from appliance.storage.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    await store.open()
    when = inbox.Instant(at="2026-01-01T00:00:00.000Z", boot_id="b", boot_s=1.0, synced=True)
    async def send(n):
        request, _ = parse(b"x", door="mqtt", limit_bytes=100, id=str(n))
        await store.write(partial(
            inbox.accept, request=request, id=str(n), engine="main", when=when,
            running=False, reply_to=None, delivery=None))
        print(n, flush=True)  # the acknowledgement
    async with asyncio.TaskGroup() as tasks:
        async def sender(k):
            for n in range(1_000_000):
                await send(f"{k}-{n}")
        for k in range(8):
            tasks.create_task(sender(k))

asyncio.run(main())
"""


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = Store(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def test_acknowledged_survives_kill(tmp_path: Path) -> None:
    """Every id the child printed is in the file after SIGKILL."""
    path = tmp_path / "a.db"
    with subprocess.Popen(
        [sys.executable, "-c", ACCEPT_FOREVER, path], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().split()

    db = open_database(path)
    kept = {id for (id,) in db.execute("SELECT id FROM inbox")}
    db.close()
    assert len(acknowledged) >= 200
    assert set(acknowledged) <= kept


async def test_writes_share_a_commit_and_resolve_after_it(tmp_path: Path) -> None:
    """64 at once need far fewer commits than 64, and each is visible once awaited."""
    async with opened(tmp_path / "a.db") as store:
        commits: list[int] = []

        def add(db: Database, n: int) -> None:
            if n == 0:
                db.conn.set_trace_callback(
                    lambda sql: commits.append(1) if sql == "COMMIT" else None
                )
            db.execute("INSERT INTO forgotten VALUES (?, ?, ?)", (bytes([n]), b"", "2026"))

        await asyncio.gather(*(store.write(partial(add, n=n)) for n in range(64)))

        assert await store.read(
            lambda db: db.execute("SELECT count(*) FROM forgotten").fetchone()
        ) == (64,)
        assert len(commits) <= 8


async def test_one_that_fails_spoils_no_other(tmp_path: Path) -> None:
    """A refusal inside the batch undoes its own statements only."""
    async with opened(tmp_path / "a.db") as store:

        def refuse(db: Database) -> None:
            db.execute("INSERT INTO forgotten VALUES (x'01', x'', '2026')")
            raise Gone("x")

        bad = store.write(refuse)
        good = store.write(
            lambda db: db.execute("INSERT INTO forgotten VALUES (x'02', x'', '2026')")
        )
        with pytest.raises(Gone):
            await bad
        await good

        assert await store.read(lambda db: db.execute("SELECT key FROM forgotten").fetchall()) == [
            (b"\2",)
        ]


async def test_what_cannot_be_stored_spoils_no_other(tmp_path: Path) -> None:
    """A text that is no Unicode, a number that is too large: only their own write fails."""
    async with opened(tmp_path / "a.db") as store:
        told: list[tuple[object, type[Exception]]] = [
            ("\udcff", UnicodeEncodeError),
            (1 << 80, OverflowError),
            (object(), sqlite3.Error),
        ]
        bad = [store.write(partial(insert, key=key)) for key, _ in told]
        good = store.write(partial(insert, key=b"\2"))
        for write, (_, error) in zip(bad, told, strict=True):
            with pytest.raises(error):
                await write
        await good

        assert await store.read(lambda db: db.execute("SELECT key FROM forgotten").fetchall()) == [
            (b"\2",)
        ]


def insert(db: Database, key: object) -> None:
    db.execute("INSERT INTO forgotten VALUES (?, x'', '2026')", (key,))


async def test_a_locked_database_is_a_storage_failure(tmp_path: Path) -> None:
    """Somebody else holds the write lock for too long: refused, and well again afterwards."""
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await store.write(lambda db: db.execute("PRAGMA busy_timeout = 50"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="locked"):
            await store.write(lambda _: None)
        other.execute("ROLLBACK")
        other.close()

        await store.write(lambda _: None)


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    """A file from a later version is neither changed nor used."""
    path = tmp_path / "a.db"
    db = open_database(path)
    db.table("_sqlite_migrations").insert(
        {"migration_set": "wattnap", "name": "9999_later", "applied_at": "2030"}
    )
    db.close()
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="newer wattnap"):
        open_database(path)
    assert path.read_bytes() == before


def test_migrations_are_applied_once(tmp_path: Path) -> None:
    """Opening again changes nothing."""
    for _ in range(2):
        db = open_database(tmp_path / "a.db")
        names = [row["name"] for row in db["_sqlite_migrations"].rows]
        db.close()
    assert names == [
        "0001_inbox",
        "0002_ledger",
        "0003_canary",
        "0004_smaller",
        "0005_baked",
        "0006_undelivered",
        "0007_attribution",
        "0008_quick_views",
        "0009_calibration",
        "0010_days",
    ]


def test_readers_cannot_write(tmp_path: Path) -> None:
    """The read-only connection refuses every change."""
    open_database(tmp_path / "a.db").close()
    with pytest.raises(Unreachable), reading(tmp_path / "a.db") as db:
        db.execute("DELETE FROM inbox")


def test_the_schema_holds_the_invariants(tmp_path: Path) -> None:
    """An end without a time, or an answer without an end, cannot be written."""
    db = open_database(tmp_path / "a.db")
    db.execute(
        "INSERT INTO inbox (id, door, client, engine, digest, form, path, body, stream, class,"
        " priority, hops, state, attempts, accepted_at, boot_id, accepted_s, synced)"
        " VALUES ('a', 'mqtt', '', 'main', zeroblob(32), 'text', '/', x'', 0, 'batch', 0, 0,"
        " 'waiting', 0, '2026', 'b', 0.0, 1)"
    )
    for change in ("state = 'done'", "answer = x'00'", "code = 'x'", "state = 'running'"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            db.execute(f"UPDATE inbox SET {change}")
    db.close()


async def test_a_clean_close_leaves_one_file(tmp_path: Path) -> None:
    """Whoever copies the database after a stop has all of it."""
    async with opened(tmp_path / "a.db") as store:
        await store.write(lambda db: db.execute("SELECT 1"))
        await store.read(lambda db: list(db.query("SELECT 1")))

    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
