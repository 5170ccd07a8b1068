"""The MQTT door and the real desk: SQLite on disk, a real broker; only the engine is a fake."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from appliance.app import Appliance, running
from appliance.clock import SystemClock
from drivers.fake import FakeEngine
from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.benches import configured, served
from tests.brokers import Mosquitto
from tests.senders import sender

REQUEST = f"{BASE}/request"


@asynccontextmanager
async def appliance(
    folder: Path, port: int, engine: FakeEngine | None = None, **mqtt: Any
) -> AsyncIterator[Appliance]:
    """With its MQTT door; leaving it is a clean stop, in the daemon's order."""
    engine = engine or FakeEngine()
    async with (
        running(configured(folder), engine, None, SystemClock()) as made,
        serving(door(port, made.intake, **mqtt)),
    ):
        yield made


async def rows(made: Appliance, sql: str) -> list[tuple[Any, ...]]:
    return await made.store.read(lambda db: list(db.execute(sql).fetchall()))


async def until_none(made: Appliance, sql: str) -> None:
    async with asyncio.timeout(20):
        while await rows(made, sql):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("v5", [True, False], ids=["v5", "v311"])
async def test_a_prompt_wakes_the_engine_and_is_answered(
    broker: Mosquitto, tmp_path: Path, v5: bool
) -> None:
    """Queued, running, parts, answer; afterwards nothing is left to deliver or to recognise."""
    engine = FakeEngine()
    version = "5" if v5 else "3.1.1"
    async with (
        sender(broker.port, v5=v5) as someone,
        appliance(tmp_path, broker.port, engine, version=version) as made,
    ):
        ours = {"id": "a1", "stream": True}
        payload = json.dumps({"prompt": "two words", "wattnap": ours})
        await someone.publish(REQUEST, payload)
        answer = await someone.hears_json(f"{BASE}/response/a1")

        assert answer["text"].split() == ["two", "words"]
        states = [
            json.loads(m.payload)["state"] for m in someone.heard if "/status/" in str(m.topic)
        ]
        assert (states[0], states[-1]) == ("queued", "done")
        assert "start" in engine.calls
        assert len(someone.topics(f"{BASE}/response/a1/part")) == 2
        await until_none(made, "SELECT number FROM outbox UNION SELECT mid FROM mqtt_unacked")


async def test_nothing_wrong_wakes_the_engine(broker: Mosquitto, tmp_path: Path) -> None:
    """Each refusal is told and has its row in the ledger."""
    engine = FakeEngine()
    async with (
        sender(broker.port, filters=(f"{BASE}/errors", f"{BASE}/response/#")) as someone,
        appliance(tmp_path, broker.port, engine) as made,
    ):
        await someone.publish(REQUEST, '{"prompt": ')
        await someone.publish(REQUEST, "")
        await someone.publish(REQUEST, "hi", ResponseTopic=REQUEST)
        await someone.publish(REQUEST, "hi", UserProperty=[("wattnap-hops", "4")])
        await someone.publish(REQUEST, "hi", retain=True)
        await someone.publish(f"{REQUEST}/gpt-9/a1", "hi")
        await someone.hears(lambda _: len(someone.heard) == 6)

        codes = {json.loads(m.payload)["error"]["code"] for m in someone.heard}
        assert codes == {"bad_request", "loop", "unknown_model"}
        refused = await rows(made, "SELECT COUNT(*) FROM requests WHERE state = 'refused'")
        assert refused == [(6,)]
    assert "start" not in engine.calls


async def test_a_repeat_and_a_conflict(broker: Mosquitto, tmp_path: Path) -> None:
    """The same body gets the same bytes; another one is refused; it ran once."""
    engine = FakeEngine()
    async with sender(broker.port) as someone, appliance(tmp_path, broker.port, engine):
        for body, copies in (("hi", 1), ("hi", 2), ("ho", 3)):
            await someone.publish(f"{REQUEST}/main/a1", body)
            await someone.hears_times(f"{BASE}/response/a1", copies)
        answers = [m.payload for m in someone.heard if str(m.topic) == f"{BASE}/response/a1"]

        assert answers[0] == answers[1]
        assert json.loads(answers[2])["error"]["code"] == "conflict"
    assert len(served(engine)) == 1


async def test_a_cancelled_request_is_answered_so(broker: Mosquitto, tmp_path: Path) -> None:
    """By its outcome, like any other."""
    async with sender(broker.port) as someone, appliance(tmp_path, broker.port):
        await someone.publish(f"{REQUEST}/main/a1", FakeEngine.ENDLESS)
        await someone.hears(
            lambda m: str(m.topic) == f"{BASE}/status/a1" and b"running" in m.payload
        )
        await someone.publish(f"{BASE}/cancel/a1")

        answer = await someone.hears_json(f"{BASE}/response/a1")
        assert answer["error"]["code"] == "cancelled"


async def test_what_was_accepted_is_answered_after_a_restart(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """By the next daemon, to the same address, on the same session."""
    async with sender(broker.port) as someone:
        slow = FakeEngine(start_s=60.0)
        async with appliance(tmp_path, broker.port, slow):
            await someone.publish(
                REQUEST, "hi", ResponseTopic="x/wattnap/1", CorrelationData=b"\0c"
            )
            await someone.hears(lambda m: b"queued" in m.payload)
        async with appliance(tmp_path, broker.port):
            properties = await someone.hears_properties("x/wattnap/1")

            assert properties.CorrelationData == b"\0c"


async def test_a_broker_that_restarts_does_not_make_anything_run_twice(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Messages without an id, redelivered or not: as many runs as prompts."""
    engine = FakeEngine(token_s=0.01)
    async with appliance(tmp_path, broker.port, engine) as made:
        async with sender(broker.port) as someone:
            for number in range(30):
                await someone.publish(REQUEST, f"prompt {number}")
        for _ in range(2):
            broker.stop()
            broker.start()
        await until_none(made, "SELECT 1 WHERE (SELECT COUNT(answer) FROM inbox) < 30")
        await until_none(made, "SELECT number FROM outbox")

        assert await rows(made, "SELECT COUNT(*), COUNT(DISTINCT digest) FROM inbox") == [(30, 30)]
    assert len(served(engine)) == 30


async def until_handled(broker: Mosquitto) -> None:
    """Return when the door has all messages that the broker had for it."""
    async with sender(broker.port) as someone:
        await someone.publish(f"{BASE}/cancel/nobody")
        await someone.hears(f"{BASE}/errors")


async def test_a_connection_cut_before_the_commit(broker: Mosquitto, tmp_path: Path) -> None:
    """The commit is late, the message comes again without an id: one request, acknowledged once,
    on the connection that brought its second copy."""
    engine = FakeEngine()
    log = tmp_path / "mosquitto" / "mosquitto.log"

    def logged(line: str) -> int:
        return log.read_text().count(line)

    again, acknowledged = "wattnap-home (d1, q1, r0, m1,", "PUBACK from wattnap-home (Mid: 1,"
    async with appliance(tmp_path, broker.port, engine) as made:
        with closing(sqlite3.connect(made.store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # while it lasts, nothing is committed
            async with sender(broker.port) as someone:
                await someone.publish(REQUEST, "hi")
            await until_handled(broker)
            broker.stop()
            broker.start()
            async with sender(broker.port) as someone:
                await someone.hears(lambda m: m.payload == b"online")
            await until_handled(broker)
            assert (logged(again), logged(acknowledged)) == (1, 0)
            other.execute("ROLLBACK")
        await until_none(made, "SELECT 1 WHERE (SELECT COUNT(answer) FROM inbox) < 1")
        await until_handled(broker)
        assert logged(acknowledged) == 1

        broker.stop()
        broker.start()
        await until_handled(broker)
        assert logged(again) == 1
        assert await rows(made, "SELECT COUNT(*) FROM inbox") == [(1,)]
    assert len(served(engine)) == 1
