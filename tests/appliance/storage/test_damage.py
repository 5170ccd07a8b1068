"""A damaged database is set aside and its queue goes on; one that cannot be read stays."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from appliance.errors import ConfigError, StorageFailed, Unreachable
from appliance.storage import damage, wal
from appliance.storage.reading import reading
from appliance.storage.store import Store, open_database
from bench.rig import Rig
from tests.appliance.commands import wattnap
from tests.appliance.storage.clients import (
    BASE,
    held,
    let_go,
    say,
    submit,
    unfinished,
    until,
)
from tests.appliance.storage.conftest import MakeDisk, MakeRig, lacking
from tests.appliance.storage.disks import losing
from tests.appliance.storage.spoilt import (
    ENDED,
    PAGE,
    WAITING,
    cut_off,
    fill,
    filled,
    no_database,
    no_header,
    no_link,
    no_page,
    zero,
)
from tests.appliance.storage.stores import opened
from tests.senders import sender


def databases(folder: Path) -> list[str]:
    """Files in it, but for what belongs to another of them."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(("-wal", "-shm")))


async def counts(store: Store) -> tuple[int, int]:
    """(ended, unfinished) requests."""
    (found,) = await store.read(
        lambda db: list(
            db.execute(
                "SELECT count(ended_at), sum(state IN ('waiting', 'running')) FROM inbox"
            ).fetchall()
        )
    )
    return found[0], found[1] or 0


@pytest.mark.parametrize(
    ("harm", "rescued"),
    [(no_database, 0), (no_header, 0), (cut_off, 0), (no_page, WAITING), (no_link, WAITING)],
)
async def test_a_damaged_database_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None], rescued: int
) -> None:
    """As it is; what can be read of the queue is in a new one, and the log says both."""
    path = filled(tmp_path / "a.db")
    harm(path)
    before = path.read_bytes()
    async with opened(path) as store:
        ended, waiting = await counts(store)
        await store.write(lambda db: db.execute("DELETE FROM inbox"))

        assert waiting == rescued
        assert store.set_aside is not None
        assert store.set_aside.read_bytes() == before
        assert str(store.set_aside) in caplog.text
    assert databases(tmp_path) == ["a.db", store.set_aside.name]
    if rescued:
        assert ENDED - 20 < ended < ENDED
        assert f"{WAITING} of them unfinished, and 2 answers to deliver" in caplog.text


async def test_it_is_set_aside_once(tmp_path: Path) -> None:
    """The new one is sound, and found again; the other is told of until it is moved away."""
    path = filled(tmp_path / "a.db")
    no_page(path)
    for _ in range(2):
        async with opened(path) as store:
            found = store.set_aside
            assert (await counts(store))[1] == WAITING
    assert found is not None
    found.unlink()
    async with opened(path) as store:
        assert store.set_aside is None


async def test_what_stands_in_the_wal_file_is_rescued(tmp_path: Path) -> None:
    """As after a power cut. Nothing of the old files is changed or lost."""
    path = tmp_path / "a.db"
    open_database(path).close()
    with closing(open_database(path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("BEGIN")
        fill(db)
        db.execute("COMMIT")
        cut = tmp_path / "cut"
        cut.mkdir()
        for part in ("", "-wal"):
            shutil.copy(f"{path}{part}", cut)
    zero(cut / "a.db", 4)  # a page that is in the -wal file, too, is none the worse
    with closing(sqlite3.connect(path)) as db_:
        (unused,) = db_.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'forgotten_ended'"
        ).fetchone()
    zero(cut / "a.db", unused)
    wal = (cut / "a.db-wal").read_bytes()
    async with opened(cut / "a.db") as store:
        assert await counts(store) == (ENDED, WAITING)
        assert store.set_aside is not None
        assert Path(f"{store.set_aside}-wal").read_bytes() == wal


async def test_an_emptied_file_does_not_take_its_wal_file_along(tmp_path: Path) -> None:
    """SQLite would delete the -wal file of an empty database; here it is kept."""
    path = tmp_path / "a.db"
    path.touch()
    Path(f"{path}-wal").write_bytes(b"all that was left")
    async with opened(path) as store:
        assert store.set_aside is not None
        assert Path(f"{store.set_aside}-wal").read_bytes() == b"all that was left"


@pytest.mark.parametrize("moved", [(), ("",), ("", "-wal")])
async def test_a_crash_while_it_is_set_aside(tmp_path: Path, moved: tuple[str, ...]) -> None:
    """The next start goes on where it ended: one set aside, under one name."""
    path = tmp_path / "a.db"
    filled(path).rename(f"{path}.rescued")
    for part in ("", "-wal"):
        Path(f"{path}{part}").write_bytes(b"old")
    made = tmp_path / "probe"
    shutil.copytree(tmp_path, made)
    damage.finish(made / "a.db")
    aside = damage.find_set_aside(made / "a.db")
    assert aside is not None
    shutil.rmtree(made)
    for part in moved:
        Path(f"{path}{part}").rename(tmp_path / f"{aside.name}{part}")
    async with opened(path) as store:
        assert await counts(store) == (ENDED, WAITING)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["a.db", aside.name, f"{aside.name}-wal"]


@pytest.mark.parametrize("room_bytes", [0, 2_600_000], ids=["none", "for a -wal file"])
async def test_no_room_to_rescue_it(make_disk: MakeDisk, room_bytes: int) -> None:
    """Then nothing is moved, and the start fails until there is room."""
    disk = make_disk("state", size_kib=8192)
    path = filled(disk.path / "a.db")
    no_page(path)
    disk.fill(but_bytes=room_bytes)
    with pytest.raises(StorageFailed, match="disk is full"):
        async with opened(path):
            pass
    assert databases(disk.path) == ["a.db", "ballast"]
    disk.make_room()
    async with opened(path) as store:
        assert (await counts(store))[1] == WAITING


async def test_a_disk_that_cannot_be_read_is_not_damage(may_mount: None, folder: Path) -> None:
    """An I/O error ends the start with its name; the file stays where it is."""
    for tool in ("losetup", "mkfs.ext4"):
        if shutil.which(tool) is None:
            lacking(tool)
    if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode:
        lacking("loop devices")
    where = folder / "disk"
    with losing(where, folder / "image", size_kib=8192, kept_kib=2048) as lose:
        path = filled(where / "a.db")
        size = path.stat().st_size
        lose()
        with pytest.raises(StorageFailed, match="disk I/O error"):
            async with opened(path):
                pass
        assert path.stat().st_size == size
        assert not list(where.glob("*corrupt*"))


async def test_a_disk_that_may_only_be_read_is_not_damage(make_disk: MakeDisk) -> None:
    """The start fails and says so; nothing is moved."""
    disk = make_disk("state", size_kib=8192)
    path = filled(disk.path / "a.db")
    disk.remount("ro")
    with pytest.raises(StorageFailed, match=r"a\.db: .*see to the disk"):
        async with opened(path):
            pass
    disk.remount("rw")
    assert [p.name for p in disk.path.iterdir()] == ["a.db"]


async def test_a_newer_schema_is_no_damage(tmp_path: Path) -> None:
    """It is refused as before, and not set aside."""
    path = filled(tmp_path / "a.db")
    with closing(open_database(path)) as db:
        db.table("_sqlite_migrations").insert(
            {"migration_set": "wattnap", "name": "9999_later", "applied_at": "2030"}
        )
    with pytest.raises(ConfigError, match="newer wattnap"):
        async with opened(path):
            pass
    assert [p.name for p in tmp_path.iterdir() if "corrupt" in p.name] == []


async def test_damage_seen_at_work_stops_all_writing(tmp_path: Path) -> None:
    """From any side; what was committed before is rescued when it is closed."""
    path = filled(tmp_path / "a.db")
    async with opened(path) as store:
        await store.write(
            lambda db: db.execute("INSERT INTO forgotten VALUES (x'01', x'', '2026')")
        )
        no_page(path)
        with pytest.raises(StorageFailed, match="is damaged"):
            await store.read(
                lambda db: db.execute("SELECT sum(length(body)) FROM inbox").fetchone()
            )
        async with asyncio.timeout(5):
            await store.damaged.wait()
        with pytest.raises(StorageFailed, match="is damaged"):
            await store.write(lambda _: None)

    aside = damage.find_set_aside(path)
    assert aside is not None
    assert Path(f"{aside}-wal").stat().st_size > 0
    async with opened(path) as store:
        assert (await counts(store))[1] == WAITING
        kept = await store.read(lambda db: list(db.query("SELECT ended_at FROM forgotten")))
        assert kept == [{"ended_at": "2026"}]


async def test_damage_seen_when_the_wal_file_is_emptied(tmp_path: Path) -> None:
    """Who does that is not who writes: nothing may be written into such a file any more."""
    path = filled(tmp_path / "a.db")

    def add(db: Database, count: int) -> None:
        keys = ((number.to_bytes(4),) for number in range(count))
        db.conn.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, x'', '2026')", keys)

    async with opened(path) as store:
        await store.write(lambda db: add(db, 1))
        with path.open("r+b") as file:
            file.truncate(PAGE)
        await store.write(lambda db: add(db, wal.ROWS))  # the writer itself has its pages
        async with asyncio.timeout(5):
            await store.damaged.wait()
        with pytest.raises(StorageFailed, match="is damaged"):
            await store.write(lambda _: None)

    aside = damage.find_set_aside(path)
    assert aside is not None
    assert Path(f"{aside}-wal").stat().st_size > 0


async def test_damage_under_a_running_daemon(make_rig: MakeRig) -> None:
    """It ends in order; the next start answers what waited, and status and topic tell of it."""
    made = make_rig(max_running=1)
    held(made)
    made.start_daemon()
    await submit(made, "old", "old " + "x " * PAGE)
    let_go(made)
    await until(lambda: not unfinished(made))
    made.stop_daemon()
    (made.folder / "gate").unlink()
    grow(made)
    made.start_daemon()
    for id in ("one", "two", "three"):
        assert (await submit(made, id, id))["event"] == "queued"
    no_page(made.database, 100)
    told = await say(made, op="submit", request="98", id="r98")

    assert told["error"]["code"] == "storage"
    assert "is damaged" in told["error"]["message"]
    assert made.daemon is not None
    await until(lambda: made.daemon is not None and made.daemon.poll() is not None)
    assert made.daemon.returncode != 0
    assert not made.engine_processes()[1]

    let_go(made)
    async with sender(made.broker.port) as someone:
        made.start_daemon()
        await until(lambda: not unfinished(made))
        state = await someone.hears(
            lambda m: str(m.topic) == f"{BASE}/state" and b"corrupt-" in m.payload
        )
    answers = made.query("SELECT id, state, attempts FROM inbox WHERE id IN ('one','two','three')")
    assert sorted((row["id"], row["state"]) for row in answers) == [
        ("one", "done"), ("three", "done"), ("two", "done"),
    ]  # fmt: skip
    aside = json.loads(state.payload)["set_aside"]
    assert Path(aside).exists()
    assert aside in wattnap("status", config=made.config).stdout


def grow(made: Rig) -> None:
    """Requests of long ago, of the user that the tests are: many pages that nobody has read."""
    with closing(open_database(made.database)) as db:
        (client,) = next(db.execute("SELECT client FROM inbox"))
        db.execute("BEGIN")
        fill(db)
        db.execute("UPDATE inbox SET door = 'socket', client = ? WHERE id LIKE 'r%'", [client])
        db.execute("DELETE FROM inbox WHERE state = 'waiting'")
        db.execute("COMMIT")


def test_whoever_only_looks_is_told(tmp_path: Path) -> None:
    """In one line, not by a bug report; and it is not for them to mend."""
    path = tmp_path / "a.db"
    no_database(path)
    with pytest.raises(Unreachable, match="not a database"), reading(path):
        pass
    filled(tmp_path / "b.db")
    no_page(tmp_path / "b.db")
    with pytest.raises(Unreachable, match="malformed"), reading(tmp_path / "b.db") as db:
        db.execute("SELECT sum(length(body)) FROM inbox").fetchall()
