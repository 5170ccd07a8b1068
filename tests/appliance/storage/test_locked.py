"""Somebody else has the database open for long: an editor in a transaction, a slow reader."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from sqlite_utils import Database

from appliance.storage.store import Store
from tests.appliance.storage.clients import attempts, held, let_go, runs, submit, unfinished, until
from tests.appliance.storage.conftest import MakeRig
from tests.appliance.storage.stores import opened


@contextmanager
def transaction(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(how)
        other.execute("SELECT count(*) FROM inbox").fetchone()
        yield other
        other.execute("ROLLBACK")


async def test_locked_by_another_writer(make_rig: MakeRig) -> None:
    """New prompts are refused with the reason; an outcome waits; then all goes on, once each."""
    made = make_rig(max_running=1)
    held(made)
    made.start_daemon()
    for id in ("one", "two"):
        await submit(made, id, id)
    await until(lambda: runs(made)["one"])
    with transaction(made.database, "BEGIN IMMEDIATE"):
        let_go(made)
        told = await submit(made, "three", "three")

        assert told["error"]["code"] == "storage"
        assert "is locked by another program" in told["error"]["message"]
        assert unfinished(made) == ["one", "two"]
    took_s = await until(lambda: not unfinished(made))
    assert took_s < 8
    assert (await submit(made, "three", "three"))["repeated"] is False
    await until(lambda: not unfinished(made))
    assert attempts(made) == {"one": 1, "two": 1, "three": 1}
    assert runs(made) == Counter(one=1, two=1, three=1)


def put(db: Database, number: int) -> None:
    db.execute(
        "INSERT OR REPLACE INTO forgotten VALUES (x'00', zeroblob(400000), ?)", [str(number)]
    )


async def test_a_reader_that_stays(tmp_path: Path) -> None:
    """Writing goes on; what grew because the -wal file could not be emptied is used again."""
    path, wal = tmp_path / "a.db", tmp_path / "a.db-wal"
    async with opened(path) as store:
        await read_meanwhile(path, store, wal)
    assert not wal.exists()


async def read_meanwhile(path: Path, store: Store, wal: Path) -> None:
    with transaction(path, "BEGIN") as reader:
        for number in range(50):
            await store.write(partial(put, number=number))
        grown_bytes = wal.stat().st_size

        assert reader.execute("SELECT count(*) FROM forgotten").fetchone() == (0,)
        assert grown_bytes > 16_000_000
    for number in range(100):
        await store.write(partial(put, number=number))

    assert wal.stat().st_size <= grown_bytes + 500_000
    assert await store.read(lambda db: list(db.query("SELECT ended_at FROM forgotten"))) == [
        {"ended_at": "99"}
    ]
