"""A database that meets another version: copied before it is changed, and taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils import Database

from appliance.errors import StorageFailed
from appliance.request import parse
from appliance.storage import backup, inbox
from appliance.storage.backup import FOLDER, KEPT
from appliance.storage.downgrade import downgrade
from appliance.storage.reading import shipped
from appliance.storage.store import Store, migrations, open_database

WHEN = inbox.Instant(at="2026-01-01T00:00:00.000Z", boot_id="b", boot_s=1.0, synced=True)
LATER = "CREATE TABLE later (number INTEGER PRIMARY KEY) STRICT;\n"


def make(path: Path, files: Sequence[Path]) -> None:
    """A database of a version that has these migrations."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrations(files).apply(Database(connection, execute_plugins=False))


def migrations_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM _sqlite_migrations ORDER BY name").fetchall()
    return [name for (name,) in rows]


def copies(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).iterdir())


async def accept(path: Path, *ids: str) -> None:
    """As the daemon does."""
    store = Store(path)
    await store.open()
    try:
        for id in ids:
            request, _ = parse(id.encode(), door="mqtt", limit_bytes=100, id=id)
            work = partial(
                inbox.accept,
                request=request,
                id=id,
                engine="main",
                when=WHEN,
                running=False,
                reply_to=b"here",
                delivery=None,
            )
            await store.write(work)
    finally:
        await store.close()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_copied_before_it_is_changed(tmp_path: Path) -> None:
    """The copy is what the older version had, in one file, and for us alone."""
    path = tmp_path / "wattnap.db"
    make(path, shipped()[:-1])
    open_database(path).close()
    (made,) = copies(tmp_path)

    assert made.name.endswith(f"-{shipped()[-2].stem}.db")
    assert migrations_in(made) == [file.stem for file in shipped()[:-1]]
    assert made.parent.stat().st_mode & 0o777 == 0o700
    assert migrations_in(path) == [file.stem for file in shipped()]


def test_no_copy_without_a_change(tmp_path: Path) -> None:
    """Neither of a new database, nor at each start."""
    for _ in range(2):
        open_database(tmp_path / "wattnap.db").close()

    assert not (tmp_path / FOLDER).exists()


def test_the_latest_copies_are_kept(tmp_path: Path) -> None:
    """Older ones go, by name, which begins with their time."""
    path = tmp_path / "wattnap.db"
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        made = [backup.before(path, connection, f"000{number}_x") for number in range(KEPT + 2)]

    assert copies(tmp_path) == sorted(made)[-KEPT:]


def test_without_room_for_a_copy_nothing_changes(tmp_path: Path) -> None:
    """The start fails; the database is as it was, and no half of a copy is left."""
    path = tmp_path / "wattnap.db"
    make(path, shipped()[:-1])
    (tmp_path / FOLDER).write_text("in the way")

    with pytest.raises(FileExistsError):
        open_database(path)

    assert migrations_in(path) == [file.stem for file in shipped()[:-1]]
    assert (tmp_path / FOLDER).read_text() == "in the way"


async def test_a_copy_while_others_write(tmp_path: Path) -> None:
    """It has what was committed before, also what still stands in the -wal file."""
    path = tmp_path / "wattnap.db"
    await accept(path, "first")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("UPDATE inbox SET priority = 7")
        with closing(sqlite3.connect(path)) as reader:
            backup.copy(reader, tmp_path / "before.db")
        writer.commit()
        with closing(sqlite3.connect(path)) as reader:
            backup.copy(reader, tmp_path / "after.db")

    assert rows(tmp_path / "before.db", "SELECT priority FROM inbox") != [(7,)]
    assert rows(tmp_path / "after.db", "SELECT priority FROM inbox") == [(7,)]


async def test_back_to_an_older_version(tmp_path: Path) -> None:
    """What was accepted is there, with where its answer goes; the newer file is kept."""
    path, older = tmp_path / "wattnap.db", tmp_path / "older"
    older.mkdir()
    for file in shipped():
        (older / file.name).write_text(file.read_text())
    await accept(path, "first", "second")
    later = tmp_path / "9999_later.sql"
    later.write_text(LATER)
    make(path, [*shipped(), later])

    assert downgrade(path, older) == {}

    await accept(path, "third")  # the older version opens it, and numbers go on
    assert rows(path, "SELECT seq, id, state FROM inbox ORDER BY seq") == [
        (1, "first", "waiting"),
        (2, "second", "waiting"),
        (3, "third", "waiting"),
    ]
    assert rows(path, "SELECT request FROM reply_address ORDER BY 1") == [(1,), (2,), (3,)]
    assert migrations_in(path) == [file.stem for file in shipped()]
    assert [name.rpartition("-")[2] for name in map(str, copies(tmp_path))] == ["9999_later.db"]
    assert migrations_in(copies(tmp_path)[0])[-1] == "9999_later"


async def test_rows_without_a_place(tmp_path: Path) -> None:
    """Of the ledger they are counted and left behind; numbers given once are not given again."""
    path, older = tmp_path / "wattnap.db", tmp_path / "older"
    older.mkdir()
    for file in shipped():
        (older / file.name).write_text(file.read_text())
    await accept(path, "gone")
    later = tmp_path / "9999_later.sql"
    later.write_text(
        "ALTER TABLE canary RENAME TO old;\nCREATE TABLE canary (identity, said, at);\n"
    )
    make(path, [*shipped(), later])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM reply_address")
        connection.execute("DELETE FROM inbox")
        connection.execute("INSERT INTO canary VALUES ('a', 'b', NULL), ('c', 'd', '2026')")
        connection.commit()

    assert downgrade(path, older) == {"canary": 1}
    assert rows(path, "SELECT identity FROM canary") == [("c",)]

    await accept(path, "next")

    assert rows(path, "SELECT seq FROM inbox") == [(2,)]


async def test_a_queue_that_does_not_fit(tmp_path: Path) -> None:
    """Then nothing is changed: an accepted request is not left behind."""
    path, older = tmp_path / "wattnap.db", tmp_path / "older"
    older.mkdir()
    for file in shipped():
        (older / file.name).write_text(file.read_text())
    await accept(path, "first")
    later = tmp_path / "9999_later.sql"
    later.write_text("DROP TABLE forgotten;\nCREATE TABLE forgotten (key, digest, ended_at);\n")
    make(path, [*shipped(), later])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO forgotten VALUES (x'00', NULL, '2026')")
        connection.commit()

    with pytest.raises((StorageFailed, sqlite3.IntegrityError)):
        downgrade(path, older)

    assert migrations_in(path)[-1] == "9999_later"
    assert rows(path, "SELECT id FROM inbox") == [("first",)]
    assert not Path(f"{path}.older").exists()


def test_nothing_to_take_back(tmp_path: Path) -> None:
    """Where the older version knows it all, or there is no database, nothing is done."""
    path = tmp_path / "wattnap.db"

    assert downgrade(path, shipped()[0].parent) is None

    open_database(path).close()

    assert downgrade(path, shipped()[0].parent) is None
    assert not (tmp_path / FOLDER).exists()
