"""The appliance from desk to engine: fake engine, fake clock, real SQLite."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.errors import BadRequest, Conflict, InboxFull
from appliance.machine.lifecycle import State
from appliance.request import parse
from appliance.storage.store import open_database
from drivers.errors import Unresponsive
from drivers.fake import FakeEngine
from drivers.protocols import Cadence
from policies.ladder import Depth
from tests.benches import AWAKE, IDLE_S, OFF, bench, configured, served
from tests.fake_clock import FakeClock


async def test_a_day_in_the_life(tmp_path: Path) -> None:
    """A request wakes it, is answered; it rests on time, to the second; the next wakes it."""
    async with bench(tmp_path, start_s=5.0) as b:
        assert b.where == OFF

        await b.send("first prompt")
        assert b.where[0] is State.WAKING

        await b.clock.advance(5.0)
        assert b.where == AWAKE
        (answer,) = await b.answers()
        assert answer["text"] == "first prompt"
        assert answer["timing"]["wake_s"] == 5.0

        await b.clock.advance(IDLE_S - 0.1)
        assert b.where == AWAKE
        await b.clock.advance(0.2)
        assert b.where == OFF

        await b.send("second")
        await b.clock.advance(5.0)
        assert await b.rows("SELECT wake_s, awake_s, requests FROM wakes") == [
            (5.0, pytest.approx(IDLE_S, abs=0.01), 1),
            (5.0, None, 1),
        ]


async def test_an_awake_engine_costs_one_commit(tmp_path: Path) -> None:
    """Accepted as running: no second commit lies between the sender and the engine."""
    async with bench(tmp_path) as b:
        await b.send("wake up")
        receipt = await b.send("at once")

        assert receipt.state == "running"
        assert await b.rows("SELECT attempts, state FROM inbox") == [(1, "done"), (1, "done")]


async def test_a_failed_wake_keeps_the_request(tmp_path: Path) -> None:
    """The engine will not start; the request is served after the back-off."""
    async with bench(tmp_path) as b:
        b.engine.fail_next = Unresponsive("fake", "no answer in 120 s")
        await b.send("patient")
        assert b.where == (State.FAILED, Depth.OFF)
        assert b.intake.state()["failure"] == "fake: no answer in 120 s"

        await b.clock.advance(1.0)
        assert b.where == AWAKE
        assert list((await b.states()).values()) == ["done"]


async def test_the_back_off_grows_and_ends_with_success(tmp_path: Path) -> None:
    """1, 2, 4 s … between starts that fail; 1 s again after an answer."""
    async with bench(tmp_path) as b:
        await b.send("endless")  # awake, and stays so
        for pause_s in (1.0, 2.0, 4.0):
            b.engine.die()
            await b.quiet()
            b.engine.fail_next = None
            assert b.supervisor.retries.left_s == pause_s
            await b.clock.advance(pause_s)


async def test_a_request_that_kills_the_engine_is_given_up(tmp_path: Path) -> None:
    """After three deaths it has failed, and its neighbours have been served, alone."""
    async with bench(tmp_path) as b:
        await b.send({"prompt": FakeEngine.POISON, "wattnap": {"id": "poison"}})
        await b.send({"prompt": "good", "wattnap": {"id": "good"}})
        await b.clock.advance(60)

        assert await b.states() == {"poison": "failed", "good": "done"}
        by_id = {answer["id"]: answer for answer in await b.answers()}
        assert by_id["poison"]["error"]["code"] == "gave_up"
        assert len([s for s in b.engine.served if b"poison" in s]) == 3


async def test_an_attempt_that_breaks_off_is_repeated(tmp_path: Path) -> None:
    """The engine lives but the answer has no end: again, alone, at most three times."""
    async with bench(tmp_path) as b:
        await b.send("wake up")
        b.engine.break_off = 2
        await b.send({"prompt": "third time lucky", "wattnap": {"id": "a"}})
        b.engine.break_off = 3
        await b.send({"prompt": "no luck", "wattnap": {"id": "b"}})

        answers = {answer["id"]: answer for answer in await b.answers()}
        assert answers["a"]["text"] == "third time lucky"
        assert answers["b"]["error"]["code"] == "gave_up"
        assert await b.rows("SELECT attempts FROM requests WHERE id IN ('a', 'b')") == [(3,), (3,)]


async def test_a_stop_is_in_the_ledger(tmp_path: Path) -> None:
    """Awake when the daemon stops: the way down has its row, and the books are closed."""
    async with bench(tmp_path) as b:
        await b.send("hello")
        await b.clock.advance(10)

    async with bench(tmp_path) as b:
        assert await b.rows("SELECT to_depth, cause FROM ledger_transition ORDER BY seq") == [
            ("awake", "request"),
            ("off", "stop"),
        ]
        ((idle_s,),) = await b.rows(
            "SELECT seconds FROM energy_by_depth WHERE depth = 'awake' AND line = 'idle'"
        )
        assert idle_s == pytest.approx(10)


async def test_suspects_run_alone(tmp_path: Path) -> None:
    """What ran when the engine died is served one at a time, so the guilty one is found."""
    async with bench(tmp_path) as b:
        await b.send({"prompt": "endless", "wattnap": {"id": "a"}})
        await b.send({"prompt": "endless", "wattnap": {"id": "b"}})
        assert b.engine.running == 2

        b.engine.die()
        await b.clock.advance(1.0)
        assert b.where == AWAKE
        assert b.engine.running == 1


async def test_stopping_gives_running_requests_back(tmp_path: Path) -> None:
    """A stop mid-answer: the request waits for the next start, attempt not counted."""
    async with bench(tmp_path) as b:
        await b.send({"prompt": "endless", "wattnap": {"id": "long"}})

    async with bench(tmp_path) as b:
        assert b.where == AWAKE
        assert await b.rows("SELECT id, state, attempts FROM inbox") == [("long", "running", 1)]


async def test_cancel_while_waiting_and_while_running(tmp_path: Path) -> None:
    """Either way it ends as cancelled, and the engine is free."""
    async with bench(tmp_path, config=configured(tmp_path, max_running=1)) as b:
        await b.send({"prompt": "endless", "wattnap": {"id": "runs"}})
        await b.send({"prompt": "endless", "wattnap": {"id": "waits"}})

        assert await b.intake.cancel("mqtt", "", "waits")
        assert await b.intake.cancel("mqtt", "", "runs")
        assert not await b.intake.cancel("mqtt", "", "runs")
        await b.quiet()

        assert await b.states() == {"runs": "failed", "waits": "failed"}
        assert [answer["error"]["code"] for answer in await b.answers()] == ["cancelled"] * 2
        assert b.engine.running == 0
        await b.clock.advance(IDLE_S + 1)
        assert b.where == OFF


async def test_a_deadline_ends_a_request_wherever_it_is(tmp_path: Path) -> None:
    """Waiting or running: after deadline_s it is answered `expired`."""
    async with bench(tmp_path, start_s=5.0) as b:
        await b.send({"prompt": "never runs", "wattnap": {"id": "waits", "deadline_s": 3}})
        await b.send({"prompt": "endless", "wattnap": {"id": "runs", "deadline_s": 20}})
        await b.clock.advance(30)

        assert await b.states() == {"waits": "failed", "runs": "failed"}
        assert {answer["error"]["code"] for answer in await b.answers()} == {"expired"}


async def test_a_repeat_is_answered_not_run(tmp_path: Path) -> None:
    """Same id and body: the stored answer goes to the new address; other body: conflict."""
    async with bench(tmp_path) as b:
        body = {"prompt": "once", "wattnap": {"id": "a"}}
        await b.send(body)
        again = await b.send(body, reply_to=b"elsewhere")

        assert again.repeated
        assert again.answer is not None
        assert len(served(b.engine)) == 1
        assert len(await b.answers()) == 2
        with pytest.raises(Conflict):
            await b.send({"prompt": "other", "wattnap": {"id": "a"}})


async def test_a_full_inbox_refuses(tmp_path: Path) -> None:
    """One more than max_waiting is refused, with when to try again, and not stored."""
    config = configured(tmp_path, max_waiting=2)
    async with bench(tmp_path, config=config, start_s=100.0) as b:
        await b.send("one")
        await b.send("two")
        with pytest.raises(InboxFull):
            await b.send("three")

        assert len(await b.states()) == 2


async def test_requests_beyond_the_places_wait_their_turn_by_priority(tmp_path: Path) -> None:
    """One place: served one after another, lower priority numbers first."""
    config = configured(tmp_path, max_running=1)
    async with bench(tmp_path, config=config, start_s=5.0) as b:
        for text, priority in [("late", 5), ("normal", 0), ("soon", -5)]:
            await b.send({"prompt": text, "wattnap": {"priority": priority}})
        await b.clock.advance(5.0)

        assert [answer["text"] for answer in await b.answers()] == ["soon", "normal", "late"]


async def test_the_operator_wakes_and_rests_it(tmp_path: Path) -> None:
    """`wake` climbs and keeps warm; `rest` goes down at once, or when the work is done."""
    async with bench(tmp_path) as b:
        b.intake.wake(keep_warm_s=5 * IDLE_S)
        await b.quiet()
        await b.clock.advance(4 * IDLE_S)
        assert b.where == AWAKE

        b.intake.rest()
        await b.quiet()
        assert b.where == OFF

        await b.send({"prompt": "endless", "wattnap": {"id": "x"}})
        b.intake.rest("off")
        await b.quiet()
        assert b.where == AWAKE
        await b.intake.cancel("mqtt", "", "x")
        await b.quiet()
        assert b.where == OFF

        b.intake.rest()
        await b.send("a wish to rest is not kept for later")
        await b.clock.advance(IDLE_S - 1)
        assert b.where == AWAKE


async def test_a_plain_wake_leaves_an_earlier_wish_to_keep_warm(tmp_path: Path) -> None:
    """Who only wakes takes nothing back: it stays awake until the longer wish is over."""
    async with bench(tmp_path) as b:
        b.intake.wake(keep_warm_s=5 * IDLE_S)
        await b.quiet()
        b.intake.wake()
        await b.quiet()
        await b.clock.advance(4 * IDLE_S)
        assert b.where == AWAKE

        await b.clock.advance(2 * IDLE_S)
        assert b.where == OFF


async def test_an_engine_that_dies_idle_is_started_for_the_next_request_only(
    tmp_path: Path,
) -> None:
    """Nobody waits: it is left off. `always_on` starts it again."""
    async with bench(tmp_path) as b:
        await b.send("hello")
        b.engine.die()
        await b.clock.advance(10)
        assert b.where == OFF
        await b.send("again")
        assert len(await b.answers()) == 2

    async with bench(tmp_path, config=configured(tmp_path, policy="always_on")) as b:
        b.intake.wake()
        await b.quiet()
        b.engine.die()
        await b.clock.advance(10)
        assert b.where == AWAKE


async def test_the_books_account_for_the_meter(tmp_path: Path) -> None:
    """Σ lines is what the meter counted; a request has its share above the floor."""
    clock = FakeClock()
    async with bench(tmp_path, clock=clock, start_s=5.0) as b:
        b.engine.token_s = 1.0
        b.meter.cadence = Cadence()
        started_j = b.meter.sample().energy_j
        await b.send("one two three")
        b.meter.draw(50.0)
        await clock.advance(5.0)
        b.meter.draw(100.0)
        await clock.advance(4.0)
        b.meter.draw(4.0)
        await clock.advance(2 * IDLE_S)
        await b.appliance.reader.catch_up()
        total_j = b.meter.sample().energy_j - started_j

        ((booked_j,),) = await b.rows("SELECT sum(energy_j) FROM ledger_energy")
        assert booked_j == pytest.approx(total_j)
        ((wake_j, marginal_j),) = await b.rows("SELECT wake_j, marginal_j FROM requests")
        assert wake_j == pytest.approx(250.0 + 100.0)  # the check: one word of its own
        seconds = 4.0  # three words and the end
        assert marginal_j == pytest.approx(seconds * 100.0 - seconds * 4.0, rel=0.35)


async def test_a_cancelled_sender_does_not_strand_its_request(tmp_path: Path) -> None:
    """The door that asked is gone before the commit: it is served all the same."""
    async with bench(tmp_path) as b:
        request, _ = parse(b"orphan", door="mqtt", limit_bytes=1000)
        task = asyncio.ensure_future(b.intake.accept(request, reply_to=b"x"))
        await asyncio.sleep(0)
        task.cancel()
        await b.quiet()

        assert list((await b.states()).values()) == ["done"]


async def test_what_the_last_daemon_left_is_taken_up(tmp_path: Path) -> None:
    """After a crash: run again; given up after three; expired without waking anything."""
    async with bench(tmp_path) as b:
        await b.send({"prompt": "endless", "wattnap": {"id": "worn"}})
        await b.send({"prompt": "endless", "wattnap": {"id": "late", "deadline_s": 50}})
    db = open_database(tmp_path / "state" / "wattnap.db")
    db.execute("UPDATE inbox SET attempts = 3 WHERE id = 'worn'")
    db.close()

    clock = FakeClock()
    await clock.advance(100)
    async with bench(tmp_path, clock=clock) as b:
        codes = {a["id"]: a["error"]["code"] for a in await b.answers() if "error" in a}
        assert codes == {"worn": "gave_up", "late": "expired"}
        assert b.engine.served == []


async def test_deadlines_across_boots(tmp_path: Path) -> None:
    """Wall time counts only if it was right both times; else the deadline starts anew."""
    body = {"prompt": "endless", "wattnap": {"id": "x", "deadline_s": 50}}
    for trusted, expected in [(True, "failed"), (False, "running")]:
        folder = tmp_path / str(trusted)
        async with bench(folder) as b:
            await b.send(body)
        clock = FakeClock()
        clock.boot_id, clock.trusted = "another boot", trusted
        clock.wall += timedelta(seconds=60)
        async with bench(folder, clock=clock) as b:
            assert await b.states() == {"x": expected}
            await clock.advance(51)
            assert await b.states() == {"x": "failed"}


async def test_a_clock_that_jumps_moves_no_timer(tmp_path: Path) -> None:
    """NTP sets the wall clock a day forward, or back: timeouts and deadlines do not care."""
    for jump in (timedelta(days=1), -timedelta(days=1)):
        async with bench(tmp_path / str(jump.days)) as b:
            await b.send({"prompt": "endless", "wattnap": {"id": "x", "deadline_s": 50}})
            b.clock.wall += jump
            await b.clock.advance(49)
            assert await b.states() == {"x": "running"}
            await b.clock.advance(2)
            assert await b.states() == {"x": "failed"}
            await b.clock.advance(IDLE_S - 5)
            assert b.where == AWAKE
            await b.clock.advance(6)
            assert b.where == OFF


@pytest.mark.parametrize(("client", "rows"), [("k", [("k", None)]), ("\udcff", [])])
async def test_a_refusal_of_something_that_is_no_text(
    tmp_path: Path, client: str, rows: list[tuple[str, None]]
) -> None:
    """What a sender calls itself or its request harms nobody else, and stands nowhere."""
    async with bench(tmp_path) as b:
        refused = b.intake.refused("http", client, "\udcff", BadRequest("x"))
        accepted = b.send({"prompt": "one", "wattnap": {"id": "r"}})
        await asyncio.gather(refused, accepted)
        await b.clock.advance(20)

        assert await b.states() == {"r": "done"}
        assert await b.rows("SELECT client, id FROM requests WHERE state = 'refused'") == rows
