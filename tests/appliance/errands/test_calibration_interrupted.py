"""A calibration that is not left alone: requests, stops, failures, the operator. Fake clock."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.commands.power import describe
from appliance.machine.lifecycle import State
from drivers.errors import Died, Unresponsive
from policies.ladder import Depth
from tests.appliance.errands.laboratory import (
    DOWN_S,
    HOUR_S,
    UP_S,
    UP_W,
    WATTS,
    WHOLE_S,
    Follower,
    calibrated,
    ladder,
    price,
    state,
)
from tests.benches import IDLE_S, PARKED, configured

MOMENTS = [0.0, 10.0, 35.0, 55.0, 62.0, 90.0, 130.0, 190.0]


@pytest.mark.parametrize("at_s", MOMENTS)
async def test_a_request_comes_first(tmp_path: Path, at_s: float) -> None:
    """It is answered as soon as the engine is awake; what it disturbed is measured again."""
    async with ladder(tmp_path) as b, Follower(b) as follower:
        await b.clock.advance(at_s)
        await b.send("a person asks")
        limit_s = max(UP_S.values()) + max(DOWN_S.values())
        await b.clock.advance(limit_s)
        ((waited_s,),) = await b.rows("SELECT ttft_s FROM requests")
        assert waited_s <= limit_s

        await b.clock.advance(WHOLE_S + 2 * IDLE_S)
        assert follower.end == "calibrated"
        for depth, watts in WATTS.items():
            assert price(b, depth).power_w == pytest.approx(watts, abs=0.5)
        for depth, seconds in UP_S.items():
            assert price(b, depth).wake_s.mean == pytest.approx(seconds)
            assert price(b, depth).wake_j.mean == pytest.approx(UP_W * seconds, rel=0.05)


async def test_it_begins_while_a_sleep_is_prepared(tmp_path: Path) -> None:
    """A request turns the engine round: it is awake then, and nothing need be waited for."""
    async with ladder(tmp_path, pieces=20, piece_s=0.5) as b:
        await b.send("a person asks")
        await b.clock.advance(UP_S[Depth.OFF] + IDLE_S + 1.25)
        assert b.where == (State.SETTLING, Depth.LIGHT)

        async with Follower(b) as follower:
            await b.send("and asks on")
            await b.clock.advance(WHOLE_S + IDLE_S)
            assert follower.end == "calibrated"


@pytest.mark.parametrize("at_s", MOMENTS)
async def test_whoever_leaves_ends_it(tmp_path: Path, at_s: float) -> None:
    """What is measured is kept, the engine goes where its policy wants it; then it goes on."""
    async with ladder(tmp_path) as b:
        async with Follower(b):
            await b.clock.advance(at_s)
        await b.clock.advance(60)
        assert b.where == PARKED
        assert state(b) in ({"never", "partial"} if at_s < 130 else {"partial", "calibrated"})
        before = {depth: found.power_w for depth, found in b.supervisor.moves.rungs.prices.items()}

    async with ladder(tmp_path) as b:
        await b.quiet()
        after = {depth: found.power_w for depth, found in b.supervisor.moves.rungs.prices.items()}
        assert {d: w for d, w in after.items() if w} == {d: w for d, w in before.items() if w}
        await calibrated(b)
        assert state(b) == "calibrated"


@pytest.mark.parametrize("at_s", MOMENTS[1::2])
async def test_a_stop_in_the_midst(tmp_path: Path, at_s: float) -> None:
    """Nothing is left of the engine; the next daemon has what was measured."""
    async with ladder(tmp_path) as b:
        follower = Follower(b)
        await follower.__aenter__()
        await b.clock.advance(at_s)
    async with ladder(tmp_path) as b:
        await calibrated(b)


async def test_two_who_follow(tmp_path: Path) -> None:
    """The second joins; it goes on until the last one leaves."""
    async with ladder(tmp_path) as b, Follower(b) as first, Follower(b) as second:
        await b.clock.advance(40)
        await first.leave()
        await b.clock.advance(WHOLE_S)

        assert second.end == "calibrated"
        starts = [told for told in second.told if told.step == "starting"]
        assert len(starts) <= 1


async def test_the_operator_wants_it_at_rest(tmp_path: Path) -> None:
    """That ends it, and it rests where that was wished."""
    async with ladder(tmp_path) as b, Follower(b) as follower:
        await b.clock.advance(60)
        b.intake.rest("off")
        await b.clock.advance(60)

        assert follower.end == "stopped"
        assert b.where == (State.ASLEEP, Depth.OFF)


async def test_a_bake_goes_before(tmp_path: Path) -> None:
    """One errand at a time; both come to their end."""
    async with ladder(tmp_path) as b:
        b.appliance.bake.look(bake=True)
        await b.clock.advance(5)
        async with Follower(b) as follower:
            await b.clock.advance(2 * WHOLE_S)

        assert follower.end == "calibrated"
        assert b.intake.state()["bake"]["state"] == "baked"
        assert price(b, Depth.OFF).wake_s.mean == pytest.approx(UP_S[Depth.OFF])


async def test_a_bake_that_goes_before_is_hastened(tmp_path: Path) -> None:
    """Somebody asked in its midst: it waits for no pause, and the operator sees what for."""
    async with ladder(tmp_path, config=configured(tmp_path, idle_timeout_s=HOUR_S)) as b:
        b.appliance.bake.look(bake=True)
        await b.clock.advance(5)
        await b.send("a person asks")
        await b.clock.advance(UP_S[Depth.OFF])
        async with Follower(b) as follower:
            assert [notice.step for notice in follower.told] == ["waiting"]
            assert "calibrating: once the bake has ended" in describe(b.intake.state())
            await b.clock.advance(2 * WHOLE_S)

        assert follower.end == "calibrated"
        assert b.intake.state()["bake"]["state"] == "baked"


async def test_an_engine_that_fails(tmp_path: Path) -> None:
    """Three times, then that is told; a calibration later goes on."""
    async with ladder(tmp_path) as b:
        park = b.engine.park

        async def broken() -> None:
            raise Unresponsive("fake", "it does not park")

        b.engine.park = broken  # type: ignore[method-assign]
        async with Follower(b) as follower:
            await b.clock.advance(WHOLE_S)
        assert follower.end == "failed"
        assert follower.told[-1].detail == "fake: it does not park"

        b.engine.park = park  # type: ignore[method-assign]
        await calibrated(b)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_it_comes_to_rest(tmp_path: Path, seed: int) -> None:
    """Requests, deaths, operators and followers at random: all is answered, nothing moves on."""
    dice = random.Random(seed)
    async with ladder(tmp_path) as b:
        followers: list[Follower] = []
        for _ in range(25):
            await b.clock.advance(dice.choice([0.0, 0.5, 3.0, 21.0, 60.0, 200.0]))
            match dice.randrange(8):
                case 0 | 1:
                    await b.send("a person asks")
                case 2:
                    b.engine.die()
                case 3:
                    b.engine.fail_next = Died("fake", 1, "bad luck")
                case 4:
                    b.intake.rest(dice.choice([None, "off", "light"]))
                case 5:
                    b.intake.bake(again=True)
                case 6:
                    followers.append(Follower(b))
                    await followers[-1].__aenter__()
                case 7 if followers:
                    await followers.pop().leave()
        b.engine.fail_next = None
        for follower in followers:
            await follower.leave()
        await b.clock.advance(HOUR_S)

        assert set((await b.states()).values()) <= {"done"}
        assert b.where[0] is State.ASLEEP
        assert state(b) != "calibrating"
        calls = len(b.engine.calls)
        await b.clock.advance(24 * HOUR_S)
        assert len(b.engine.calls) == calls
