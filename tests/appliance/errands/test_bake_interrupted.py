"""A bake that is not left alone: requests, stops, deaths, the operator. Fake engine, fake clock."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from appliance.commands.power import describe
from appliance.errands.bake import FAILED_BAKES
from appliance.errands.errand import TRIES
from appliance.machine.lifecycle import State
from drivers.errors import Died, NotSupported, OutOfMemory, Unresponsive
from policies.ladder import Depth
from tests.appliance.errands.baking import (
    DAY_S,
    PARK_S,
    PIECE_S,
    SLEEP_S,
    START_S,
    WAKE_S,
    WHOLE_S,
    baking,
    begin,
    outcomes,
    state,
)
from tests.benches import AWAKE, IDLE_S, OFF, PARKED

MOMENTS = [
    0.0,
    START_S / 2,
    START_S,
    START_S + 1,
    START_S + SLEEP_S,
    START_S + SLEEP_S + WAKE_S / 2,
    START_S + SLEEP_S + WAKE_S + 1,
    START_S + SLEEP_S + WAKE_S + SLEEP_S + PARK_S / 2,
    WHOLE_S - WAKE_S / 2,
    WHOLE_S + 1,
]
"""One in each move of a bake, and some between two."""


@pytest.mark.parametrize("at_s", MOMENTS)
async def test_a_request_comes_first(tmp_path: Path, at_s: float) -> None:
    """It is answered as soon as the engine is awake, and the bake comes to its end later."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(at_s)
        await b.send("a person asks")
        limit_s = max(START_S - at_s, SLEEP_S + PARK_S + WAKE_S)
        await b.clock.advance(limit_s)

        ((waited_s,),) = await b.rows("SELECT ttft_s FROM requests")
        assert waited_s <= limit_s < START_S + 1
        await b.clock.advance(IDLE_S + 2 * WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]
        assert b.where == PARKED


@pytest.mark.parametrize("wakes", [False, True])
async def test_who_comes_while_a_sleep_is_prepared(tmp_path: Path, wakes: bool) -> None:
    """It turns round: answered at once. The bake comes to its end later."""
    async with baking(tmp_path, pieces=20) as b:
        begin(b)
        await b.clock.advance(START_S + 3.25 * PIECE_S)
        assert b.where == (State.SETTLING, Depth.LIGHT)

        await b.send("a person asks")
        if wakes:
            b.intake.wake(1.0)
        await b.clock.advance(PIECE_S)
        assert len(await b.answers()) == 1
        assert b.engine.calls == ["start", *["prepare"] * 4]

        await b.clock.advance(IDLE_S + 2 * WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]
        assert b.where == PARKED


async def test_who_asks_on_is_not_put_to_sleep_on(tmp_path: Path) -> None:
    """After a request in mid-bake it stays awake for as long as the policy would have it."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.send("a person asks")
        await b.clock.advance(START_S)
        for _ in range(5):
            await b.clock.advance(IDLE_S - 1)
            assert b.engine.calls == ["start"]
            await b.send("and asks on")

        await b.clock.advance(IDLE_S + 2 * WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]


@pytest.mark.parametrize("at_s", MOMENTS[:-1])
async def test_a_stop_in_mid_bake(tmp_path: Path, at_s: float) -> None:
    """Nothing is left of the engine, and the next daemon does it from the start."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(at_s)
        engine = b.engine
    assert engine.calls[-2:] == ["stop", "dismiss"]

    async with baking(tmp_path) as b:
        assert await outcomes(b) == []
        begin(b)
        await b.clock.advance(WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]


@pytest.mark.parametrize("at_s", MOMENTS[3:-1])
async def test_an_engine_that_dies_in_mid_bake(tmp_path: Path, at_s: float) -> None:
    """It is started again, and the bake goes on where it was."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(at_s)
        b.engine.die()
        await b.clock.advance(2 * START_S + WHOLE_S)

        assert await outcomes(b) == [("one", "ok")]


async def test_an_engine_that_always_dies(tmp_path: Path) -> None:
    """After three failures the bake has failed, which is told; nothing more is tried by itself."""
    async with baking(tmp_path) as b:

        async def sleep() -> str:
            raise Unresponsive("fake", "it does not come to rest")

        b.engine.sleep = sleep  # type: ignore[method-assign]
        begin(b)
        await b.clock.advance(DAY_S)

        assert await outcomes(b) == [("one", "failed")]
        assert b.engine.calls.count("start") == TRIES
        told = "\n".join(describe(b.intake.state()))
        assert "the bake failed: fake: it does not come to rest" in told
        assert b.where[0] is State.ASLEEP

        await b.send("a person asks")
        await b.clock.advance(START_S)
        assert list((await b.states()).values()) == ["done"]


async def test_a_mistake_that_a_person_must_mend(tmp_path: Path) -> None:
    """One try, then the reason."""
    async with baking(tmp_path) as b:
        b.engine.fail_next = NotSupported("fake", "no such flag")
        begin(b)
        await b.clock.advance(DAY_S)

        assert await b.rows("SELECT outcome, error FROM baked") == [
            ("failed", "fake: no such flag")
        ]
        assert b.engine.calls == ["start", "stop", "dismiss", "dismiss"]


async def test_what_fails_each_time_is_left_to_the_operator(tmp_path: Path) -> None:
    """After so many failed bakes a daemon begins no more by itself; the operator's word does."""
    for _ in range(FAILED_BAKES):
        async with baking(tmp_path) as b:
            b.engine.fail_next = NotSupported("fake", "no such flag")
            begin(b)
            await b.clock.advance(1)

    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(DAY_S)
        assert b.engine.calls == []
        assert "the bake failed: fake: no such flag" in "\n".join(describe(b.intake.state()))

        b.intake.bake()
        await b.clock.advance(WHOLE_S)
        assert (await outcomes(b))[-1] == ("one", "ok")


async def test_what_does_not_fit_is_waited_for(tmp_path: Path) -> None:
    """However many starts it takes until it is small enough, they are one bake."""
    async with baking(tmp_path) as b:
        start, left = b.engine.start, list(range(5))

        async def fits_at_last() -> Any:
            if left:
                left.pop()
                raise OutOfMemory("fake", 1, "CUDA out of memory")
            return await start()

        b.engine.start = fits_at_last  # type: ignore[method-assign]
        begin(b)
        await b.clock.advance(WHOLE_S + 10)

        assert await outcomes(b) == [("one", "ok")]


@pytest.mark.parametrize("at_s", [5.0, *MOMENTS[3:]])
async def test_the_operator_wants_it_at_rest(tmp_path: Path, at_s: float) -> None:
    """That ends the bake, without blame, and it rests as deep as was wished, from anywhere."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(at_s)
        b.intake.rest("off")
        await b.clock.advance(START_S + SLEEP_S)

        assert b.where == OFF
        assert await outcomes(b) == [("one", "ok")] * (at_s > WHOLE_S)
        calls = len(b.engine.calls)
        await b.clock.advance(DAY_S)
        assert len(b.engine.calls) == calls

        await b.send("a person asks")
        await b.clock.advance(START_S + IDLE_S + SLEEP_S + PARK_S)
        assert b.where == PARKED


async def test_the_operator_wants_it_awake(tmp_path: Path) -> None:
    """As long as it is to be kept warm, it is; then the bake goes on."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(START_S / 2)
        b.intake.wake(3600.0)
        await b.clock.advance(3600.0 - 1)
        assert b.where == AWAKE
        assert b.engine.calls == ["start"]

        await b.clock.advance(2 * WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]


@pytest.mark.parametrize("seed", range(15))
async def test_whatever_happens_it_comes_to_rest(tmp_path: Path, seed: int) -> None:
    """Requests, deaths and operators at random: all is answered, and then nothing moves."""
    chance = random.Random(seed)
    async with baking(tmp_path, to_prepare=3) as b:
        begin(b)
        for _ in range(30):
            await b.clock.advance(chance.choice([0.0, 0.5, 3.0, 21.0, 60.0, 300.0]))
            match chance.randrange(8):
                case 0 | 1:
                    await b.send("a person asks")
                case 2:
                    b.engine.die()
                case 3:
                    b.engine.fail_next = Died("fake", 1, "bad luck")
                case 4:
                    b.intake.wake(chance.choice([0.0, 100.0]))
                case 5:
                    b.intake.rest(chance.choice([None, "off", "light"]))
                case 6:
                    b.intake.bake(again=chance.choice([True, False]))
        b.engine.fail_next = None
        await b.clock.advance(DAY_S)

        assert set((await b.states()).values()) <= {"done"}
        assert b.where[0] is State.ASLEEP
        assert state(b) != "baking"
        calls = len(b.engine.calls)
        await b.clock.advance(DAY_S)
        assert len(b.engine.calls) == calls
