"""A real file system that is full: refused clearly, nothing accepted lost, on by itself again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from functools import partial

import psutil
from sqlite_utils import Database

from appliance.commands.power import describe
from appliance.errors import StorageFailed
from appliance.storage.journal import MAX_ROWS
from appliance.storage.store import Store
from bench.rig import Rig
from tests.appliance.commands import wattnap
from tests.appliance.storage.clients import (
    BASE,
    FILTERS,
    attempts,
    held,
    let_go,
    runs,
    say,
    say_all,
    submit,
    unfinished,
    until,
)
from tests.appliance.storage.conftest import MakeDisk, MakeRig
from tests.appliance.storage.stores import opened
from tests.benches import bench
from tests.senders import Sender, sender

ROOM_BYTES = 1_500_000
FILLING = " word" * 4000


async def accept_until_full(
    made: Rig, someone: Sender, filling: str = FILLING, name: str = ""
) -> list[str]:
    """Ids accepted, over both doors in turn, until both have refused one."""
    accepted: list[str] = []
    refused: set[str] = set()
    for number in range(500):
        if len(refused) == 2:
            return accepted
        for door in sorted({"m", "s"} - refused):
            id = f"{door}-{name}{number}"
            if door == "s":
                told = await submit(made, id, id + filling)
            else:
                await someone.publish(f"{BASE}/request/main/{id}", id + filling)
                topics = {f"{BASE}/status/{id}", f"{BASE}/response/{id}"}
                heard = await someone.hears(lambda m, t=topics: str(m.topic) in t)  # type: ignore[misc]
                told = json.loads(heard.payload)
            if "error" not in told:
                accepted.append(id)
                continue
            refused.add(door)
            error = told["error"]
            assert error["code"] == "storage"
            assert f"make room in {made.folder}/state" in error["message"]
            assert error["retry_after_s"] > 0
    raise AssertionError("the disk never became full")


async def test_a_disk_that_becomes_full_and_is_cleared(
    make_disk: MakeDisk, make_rig: MakeRig
) -> None:
    """Refused over both doors; an outcome waits for room; then everything runs on, once each."""
    made = make_rig(max_running=2)
    disk = make_disk("state", size_kib=6144)
    disk.fill(but_bytes=ROOM_BYTES)
    held(made)
    made.start_daemon()
    async with sender(made.broker.port, filters=FILTERS) as someone:
        await someone.hears(lambda m: m.payload == b"online")
        await submit(made, "first", "first")
        await until(lambda: runs(made)["first"])
        accepted = ["first", *await accept_until_full(made, someone)]
        disk.fill()
        # What a large one was refused for has left room for small ones, and for outcomes.
        accepted += await accept_until_full(made, someone, filling="", name="small-")
        let_go(made)
        await until(lambda: "what has ended waits" in made.tail("daemon.log"))

        assert len(accepted) > 10
        assert "first" in unfinished(made)

        disk.make_room()
        took_s = await until(lambda: not unfinished(made), within_s=20)
        await someone.hears_all(sum(id[0] == "m" for id in accepted) + 1, f"{BASE}/response/")
        again = await submit(made, "again", "again")

    assert took_s < 12
    assert again["event"] == "queued"
    assert "stored after all" in made.tail("daemon.log", lines=1000)
    await until(lambda: not unfinished(made))
    assert attempts(made) == dict.fromkeys([*accepted, "again"], 1)
    assert runs(made) == Counter(dict.fromkeys([*accepted, "again"], 1))


async def test_woken_while_it_is_full(make_disk: MakeDisk, make_rig: MakeRig) -> None:
    """A live prompt needs no disk: it is answered, and so is the state asked for."""
    made = make_rig()
    disk = make_disk("state", size_kib=6144)
    made.start_daemon()
    disk.fill()
    number = 0
    while (await submit(made, f"x{number}", FILLING))["event"] == "queued":
        disk.fill()
        number += 1
    events = await say_all(made, op="ask", request="still here")

    assert events[-1]["answer"]["text"] == "still here"
    assert (await say(made, op="status"))["status"]["state"] == "awake"
    disk.make_room()
    await until(lambda: not unfinished(made))


async def test_full_for_long(make_disk: MakeDisk) -> None:
    """Live calls go on for ever. What the ledger would say of the oldest is lost, and said so;
    memory does not grow with them."""
    disk = make_disk("disk", size_kib=6144)
    async with bench(disk.path) as b:
        await b.send("wake up")
        disk.fill()
        with contextlib.suppress(StorageFailed):
            while True:  # into the pages that SQLite has already
                await b.send(FILLING)
        for number in range(MAX_ROWS + 500):
            await b.ask(f"n{number}")
        assert b.intake.state()["ledger_rows_lost"] >= 100
        held_bytes = psutil.Process().memory_info().rss
        for number in range(MAX_ROWS):
            await b.ask(f"n{number}")
        lost = b.intake.state()["ledger_rows_lost"]

        assert lost >= MAX_ROWS
        assert psutil.Process().memory_info().rss < held_bytes + 4_000_000
        assert f"{lost} rows of the ledger are lost" in "\n".join(describe(b.intake.state()))

        disk.make_room()
        await b.clock.advance(10)
        rows = await b.rows("SELECT count(*) FROM requests WHERE door = 'socket'")
        assert rows == [(2 * MAX_ROWS + 500 - lost,)]
        assert b.intake.state()["ledger_rows_lost"] == lost


async def test_stopped_and_started_while_it_is_full(make_disk: MakeDisk, make_rig: MakeRig) -> None:
    """It stops at once, and loses an answer, not a prompt. It starts once there is room."""
    made = make_rig(max_running=1)
    disk = make_disk("state", size_kib=6144)
    held(made)
    made.start_daemon()
    for id in ("first", "second", "third"):
        await submit(made, id, id)
    await until(lambda: runs(made)["first"])
    disk.fill()
    # What is left in the pages that SQLite has already is not room for an outcome.
    while (await submit(made, f"x{time.monotonic_ns()}", "x" + FILLING))["event"] == "queued":
        disk.fill()
    let_go(made)
    await until(lambda: "what has ended waits" in made.tail("daemon.log"))
    began = time.monotonic()
    made.stop_daemon()

    assert time.monotonic() - began < 5
    assert "run again after the next start" in made.tail("daemon.log")
    assert "first" in unfinished(made)

    disk.fill()
    result = wattnap("run", "--fake", config=made.config)
    assert result.returncode == os.EX_TEMPFAIL
    assert result.stderr.splitlines()[-1].startswith("wattnap: the disk is full; make room in")

    disk.make_room()
    made.start_daemon()
    await until(lambda: not unfinished(made))
    assert attempts(made) == {"first": 2, "second": 1, "third": 1}
    assert runs(made) == Counter(first=2, second=1, third=1)


def change(db: Database, number: int) -> None:
    db.execute("UPDATE forgotten SET ended_at = ? WHERE key = x'00'", [str(number)])


def add(db: Database, key: bytes, bulk: int = 0) -> None:
    db.execute("INSERT INTO forgotten VALUES (?, zeroblob(?), '2026')", [key, bulk])


async def test_what_needs_no_room_goes_on(make_disk: MakeDisk) -> None:
    """The -wal file is used again from its beginning, however full the disk is."""
    disk = make_disk("disk", size_kib=1024)
    async with opened(disk.path / "a.db") as store:
        await store.write(partial(add, key=b"\0"))
    async with opened(disk.path / "a.db") as store:
        await store.write(partial(change, number=0))
        disk.fill()
        for number in range(50):
            await store.write(partial(change, number=number))

        assert disk.free_bytes == 0


async def fill_with_its_wal(store: Store) -> None:
    """Until the disk is full, and its -wal file has most of that."""
    for number in range(1000):
        try:
            await store.write(partial(change, number=number))
            await store.write(partial(add, key=number.to_bytes(4), bulk=3000))
        except StorageFailed as error:
            assert "disk is full" in str(error)
            return
    raise AssertionError("the disk never became full")


async def test_a_little_room_is_enough_to_go_on(make_disk: MakeDisk) -> None:
    """It does not all go to the -wal file, which could then never be emptied."""
    disk = make_disk("disk", size_kib=2048)
    async with opened(disk.path / "a.db") as store:
        await store.write(partial(add, key=b"\0"))
        disk.fill(but_bytes=600_000)
        await fill_with_its_wal(store)
        disk.make_room(600_000)
        for number in range(300):
            await store.write(partial(change, number=number))
