"""Callers who wait for their answer: fake engine, fake clock, real SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.desk import Answer
from appliance.errors import Cancelled, WakeFailed
from appliance.machine.roster import Entry
from appliance.notices import Part, Progress
from appliance.request import parse
from drivers.errors import NotPresent, Unresponsive
from tests.benches import AWAKE, IDLE_S, OFF, bench
from tests.memory import count


async def test_a_live_call_streams_and_is_in_the_ledger(tmp_path: Path) -> None:
    """Progress, parts in order, the answer; then a row, though it was never stored."""
    async with bench(tmp_path) as b:
        events = await b.ask({"prompt": "three little words", "stream": True})

        states = [e.state for e in events if isinstance(e, Progress)]
        assert states == ["queued", "waking", "running"]
        parts = [e for e in events if isinstance(e, Part)]
        assert "".join(p.text for p in parts) == "three little words"
        assert [p.index for p in parts] == [0, 1, 2]
        assert isinstance(events[-1], Answer)
        assert await b.rows("SELECT state, completion_tokens FROM requests") == [("done", 3)]
        assert await b.states() == {}


async def test_nothing_rests_under_a_live_call(tmp_path: Path) -> None:
    """A stream without a durable request keeps the engine awake; leaving it ends that."""
    async with bench(tmp_path) as b:
        request, _ = parse(b"endless", door="socket", limit_bytes=1000)
        async with b.intake.call(request) as events:
            assert isinstance(await anext(events), Progress)
            await b.quiet()
            await b.clock.advance(10 * IDLE_S)
            assert b.where == AWAKE
            assert b.engine.running == 1

        await b.quiet()
        assert b.engine.running == 0
        await b.clock.advance(IDLE_S + 1)
        assert b.where == OFF


async def test_a_live_caller_hears_of_a_failed_wake(tmp_path: Path) -> None:
    """It is told at once, with when to try again; durable requests wait on."""
    async with bench(tmp_path) as b:
        b.engine.fail_next = Unresponsive("fake", "stuck")
        with pytest.raises(WakeFailed) as caught:
            await b.ask("hello")

        assert caught.value.retry_after_s == 1.0


async def test_leaving_a_call_cancels_it(tmp_path: Path) -> None:
    """A caller that goes away is in the ledger as cancelled."""
    async with bench(tmp_path) as b:
        request, _ = parse(b"endless", door="socket", limit_bytes=1000)
        async with b.intake.call(request):
            await b.quiet()
        assert await b.rows("SELECT error FROM requests") == [(Cancelled.code,)]


async def test_an_engine_that_cannot_start_keeps_nobody(tmp_path: Path) -> None:
    """Whoever was told so is forgotten, also while nothing is ever taken from the queue."""
    async with bench(tmp_path) as b:
        b.engine.fail_next = NotPresent("fake", "no GPU")
        for _ in range(300):
            with pytest.raises(WakeFailed):
                await b.ask({"prompt": "one"})
            await b.quiet()

        assert count(Entry) < 150
