"""What becomes of an engine that does not start, and of those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.commands.power import describe
from appliance.errors import WakeFailed
from appliance.machine.lifecycle import State
from appliance.machine.retries import pause_s
from appliance.notices import Progress
from drivers.errors import Died, DriverError, NotPresent, NotSupported, OutOfMemory, Unresponsive
from drivers.protocols import EngineFacts
from policies.ladder import Depth
from tests.benches import Bench, bench, configured

DAY_S = 86400.0
BAD_FLAG = NotSupported("vllm", "this vLLM does not take such a flag: correct engine.args")


def test_pauses_grow_and_stay_numbers() -> None:
    """Seconds, minutes, after an hour hours: also for an engine that has failed for days."""
    assert [pause_s(n) for n in (0, 1, 9, 10, 20, 21, 5000)] == [1, 1, 256, 300, 300, 3600, 3600]
    assert [pause_s(n, lasting=True) for n in (1, 2, 3, 4, 5000)] == [60, 240, 960, 3600, 3600]


def broken(b: Bench, error: Callable[[], DriverError | None]) -> list[float]:
    """From now on each start raises `error`, until that is None; returns when they began."""
    began_s: list[float] = []
    start = b.engine.start

    async def fail() -> EngineFacts:
        began_s.append(b.clock.now())
        if (raised := error()) is not None:
            raise raised
        return await start()

    b.engine.start = fail  # type: ignore[method-assign]
    return began_s


@pytest.mark.parametrize(
    ("error", "most"), [(BAD_FLAG, 3 + 24), (Died("vllm", 1, "no idea"), 20 + 24)]
)
async def test_a_day_without_an_engine(tmp_path: Path, error: DriverError, most: int) -> None:
    """It is tried seldom, and ever again; the request waits, and is answered in the end."""
    async with bench(tmp_path) as b:
        began_s = broken(b, lambda: error if b.clock.now() < DAY_S else None)
        await b.send({"prompt": "patient", "wattnap": {"id": "a"}})
        await b.clock.advance(DAY_S)

        assert most - 3 <= len(began_s) <= most
        assert await b.states() == {"a": "waiting"}

        await b.clock.advance(3600)
        assert await b.states() == {"a": "done"}


async def test_live_callers_are_told_at_once(tmp_path: Path) -> None:
    """Those who waited for the start, and those who come while none is near: with the reason."""
    async with bench(tmp_path) as b:
        broken(b, lambda: BAD_FLAG)
        with pytest.raises(WakeFailed, match=r"correct engine\.args") as caught:
            await b.ask("first")
        assert caught.value.retry_after_s == 60.0

        await b.clock.advance(20)
        with pytest.raises(WakeFailed, match=r"correct engine\.args") as caught:
            await b.ask("second")
        assert caught.value.retry_after_s == 40.0
        assert await b.rows("SELECT state, error FROM requests") == [("failed", "wake_failed")] * 2


async def test_the_operator_s_word_ends_the_pause(tmp_path: Path) -> None:
    """`wake` after the repair: it is tried now, and what has waited is answered."""
    async with bench(tmp_path) as b:
        repaired = False
        began_s = broken(b, lambda: None if repaired else BAD_FLAG)
        await b.send({"prompt": "patient", "wattnap": {"id": "a"}})
        b.intake.wake()
        await b.quiet()

        assert len(began_s) == 2
        assert b.where == (State.FAILED, Depth.OFF)

        repaired = True
        b.intake.wake()
        await b.quiet()

        assert b.clock.now() == 0.0
        assert await b.states() == {"a": "done"}
        assert b.intake.state()["retry_at"] is None


async def test_without_requests_it_is_not_tried(tmp_path: Path) -> None:
    """Nobody wants it: one start, for the live caller, and none after that."""
    async with bench(tmp_path) as b:
        began_s = broken(b, lambda: BAD_FLAG)
        with pytest.raises(WakeFailed):
            await b.ask("hello")
        await b.clock.advance(DAY_S)

        assert len(began_s) == 1
        assert b.where == (State.ASLEEP, Depth.OFF)


async def test_an_engine_that_is_always_on_is_tried_seldom_too(tmp_path: Path) -> None:
    """Its policy wants it awake; that makes it no easier to start."""
    async with bench(tmp_path, config=configured(tmp_path, policy="always_on")) as b:
        began_s = broken(b, lambda: NotPresent("vllm", "no model at /mnt/m"))
        b.intake.wake()
        await b.quiet()
        await b.clock.advance(DAY_S)

        assert 3 < len(began_s) <= 3 + 24


async def test_a_smaller_start_is_waited_for(tmp_path: Path) -> None:
    """It did not fit, twice: a live caller is answered by the third start, 2 s later."""
    async with bench(tmp_path) as b:
        did_not_fit = [OutOfMemory("vllm", 1, "CUDA out of memory") for _ in range(2)]
        began_s = broken(b, lambda: did_not_fit.pop() if did_not_fit else None)
        asked = asyncio.create_task(b.ask("hello"))
        await b.clock.advance(2.0)

        events = await asked
        assert [e.state for e in events if isinstance(e, Progress)].count("waking") == 3
        assert began_s == [0.0, 1.0, 2.0]


async def test_what_is_smaller_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, once; in the status, also at rest; in the ledger, at each wake."""
    async with bench(tmp_path) as b:
        start = b.engine.start

        async def smaller() -> EngineFacts:
            return replace(await start(), smaller=("max_running 16 instead of 64",))

        b.engine.start = smaller  # type: ignore[method-assign]
        for _ in range(2):
            await b.send("hello")
            b.intake.rest()
            await b.quiet()

        assert caplog.text.count("max_running 16 instead of 64") == 1
        assert b.where[0] is State.ASLEEP
        told = describe(b.intake.state())
        assert "smaller than configured, which did not fit: max_running 16 instead of 64" in told
        assert await b.rows(
            "SELECT smaller FROM ledger_transition WHERE to_depth = 'awake'"
        ) == [("max_running 16 instead of 64",)] * 2  # fmt: skip


async def test_the_status_says_what_to_do(tmp_path: Path) -> None:
    """Why, when it is tried again, and how to have that now."""
    async with bench(tmp_path) as b:
        broken(b, lambda: BAD_FLAG)
        await b.send("hello")
        told = "\n".join(describe(b.intake.state()))

        assert "last failure: vllm: this vLLM does not take such a flag" in told
        assert "the next start is tried at " in told
        assert "`wattnap wake` tries it now" in told


async def test_it_starts_soon_again_after_an_answer(tmp_path: Path) -> None:
    """What failed before an answer counts no more."""
    async with bench(tmp_path) as b:
        errors = [Unresponsive("vllm", "late") for _ in range(5)]
        broken(b, lambda: errors.pop() if errors else None)
        await b.send("hello")
        await b.clock.advance(60)
        assert len(await b.answers()) == 1

        b.engine.die()
        await b.quiet()
        assert b.supervisor.retries.left_s == 1.0
