"""A disk that has changed where an answer is to go: that one is lost, and no other."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

from tests.appliance.storage.clients import BASE, FILTERS, held, let_go, runs, until
from tests.appliance.storage.conftest import MakeRig
from tests.senders import sender


async def test_the_door_goes_on(make_rig: MakeRig) -> None:
    """It says so on `errors` and in the ledger; and the answer goes where it is asked for anew."""
    made = make_rig(max_running=1)
    held(made)
    made.start_daemon()
    async with sender(made.broker.port, filters=(*FILTERS, f"{BASE}/errors")) as someone:
        await someone.hears(lambda m: m.payload == b"online")
        for id in ("first", "second"):
            await someone.publish(f"{BASE}/request/main/{id}", id)
        await someone.hears(f"{BASE}/status/second")
        await until(lambda: runs(made)["first"])
        made.stop_daemon(signal.SIGKILL)
        with closing(sqlite3.connect(made.database, isolation_level=None)) as db:
            db.execute("UPDATE reply_address SET reply_to = x'ff007b' WHERE request = 1")
        let_go(made)
        made.start_daemon()
        told = await someone.hears_json(f"{BASE}/errors")
        await someone.hears(f"{BASE}/response/second")

        assert (told["id"], told["error"]["code"]) == ("first", "undeliverable")
        assert f"{BASE}/response/first" not in someone.topics()
        (row,) = made.query("SELECT id, door, reply_to, reason FROM ledger_undelivered")
        assert (row["id"], row["door"], row["reply_to"]) == ("first", "mqtt", b"\xff\0{")
        assert row["reason"] == told["error"]["message"]

        await someone.publish(f"{BASE}/request/main/first", "first")
        answer = await someone.hears_json(f"{BASE}/response/first")
        assert answer["id"] == "first"
        assert "text" in answer
    assert runs(made)["first"] == 2  # before the crash, and after it
    await until(lambda: not made.query("SELECT * FROM outbox"))
