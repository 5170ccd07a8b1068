"""The ladder, measured: every rung, whatever comes in between."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from appliance.commands.power import describe
from appliance.config import Energy
from appliance.desk import Calibrate
from appliance.machine.lifecycle import State
from drivers.errors import Died, Unresponsive
from policies.ladder import Depth
from tests.appliance.errands.laboratory import (
    AWAKE,
    BOOST_W,
    DOWN_S,
    DOWN_W,
    HOUR_S,
    PARKED,
    TAIL_S,
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
from tests.benches import IDLE_S, configured


async def test_every_rung_is_measured(tmp_path: Path) -> None:
    """Watts after the tail, seconds and joules of each way, and then it rests as it should."""
    async with ladder(tmp_path) as b:
        assert state(b) == "never"
        follower = await calibrated(b)

        assert follower.told[0].step == "starting"
        assert state(b) == "calibrated"
        for depth, watts in WATTS.items():
            assert price(b, depth).power_w == pytest.approx(watts, abs=0.01)
            assert price(b, depth).spread_w == pytest.approx(0.0, abs=0.01)
        assert price(b, Depth.AWAKE).settle_s == pytest.approx(TAIL_S, abs=1.0)
        for depth, seconds in DOWN_S.items():
            found = price(b, depth)
            assert found.enter_s.mean == pytest.approx(seconds)
            assert found.enter_j.mean == pytest.approx(DOWN_W * seconds, rel=0.01)
            assert found.wake_s.mean == pytest.approx(UP_S[depth])
            assert found.wake_j.mean == pytest.approx(UP_W * UP_S[depth], rel=0.01)
            assert found.wake_s.count >= 2
        assert b.where == PARKED
        causes = await b.rows("SELECT DISTINCT cause FROM ledger_transition")
        assert causes == [("calibrate",)]


async def test_the_policy_decides_by_it(tmp_path: Path) -> None:
    """Joules above the floor; a rung that saves too little to be seen saves nothing."""
    async with ladder(tmp_path) as b:
        before = b.supervisor.idleness.ladder
        assert {rung.source for rung in before} == {"built-in"}
        await calibrated(b)

        by_depth = {rung.depth: rung for rung in b.supervisor.idleness.ladder}
        assert [rung.power_w for rung in by_depth.values()] == [80.0, 80.0, 70.0, 60.0, 50.0]
        assert {rung.source for rung in by_depth.values()} == {"counter"}
        assert by_depth[Depth.OFF].wake_j == pytest.approx((UP_W - 50.0) * 30.0, rel=0.01)
        assert by_depth[Depth.OFF].enter_j == pytest.approx((DOWN_W - 50.0) * 3.0, rel=0.01)
        assert by_depth[Depth.PARKED].wake_s == pytest.approx(2.0)


async def test_what_it_ends_with(tmp_path: Path) -> None:
    """A row for each rung, with when it pays; and what the policy will do."""
    async with ladder(tmp_path) as b:
        await calibrated(b)

        told = b.intake.calibration()
        by_depth = {row["depth"]: row for row in told["rungs"]}
        assert list(by_depth) == ["awake", "light", "parked", "stopped", "off"]
        assert by_depth["light"]["breakeven_s"] is None
        parked = (DOWN_W - 50) * 2.0 + (UP_W - 50) * (2.0 - 1.0)
        parked += 30.0 * 0.5 - 20.0 * 2.5  # what is drawn at rest begins where the way down ends
        assert by_depth["parked"]["breakeven_s"] == pytest.approx(parked / 10.0, rel=0.01)
        assert told["policy"] == "fixed"
        assert told["timetable"][-1] == {"after_s": IDLE_S, "depth": "parked"}
        assert msgspec.json.encode(told)


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


async def test_another_engine_has_other_prices(tmp_path: Path) -> None:
    """What changed is named; guesses stand in; and the first one's are still known."""
    async with ladder(tmp_path) as b:
        await calibrated(b)

    async with ladder(tmp_path, "two") as b:
        await b.quiet()
        assert b.intake.state()["calibration"] == {"state": "stale", "changed": ["recipe"]}
        told = "\n".join(describe(b.intake.state()))
        assert "calibrated for another engine (recipe); `wattnap calibrate`" in told
        assert {rung.source for rung in b.supervisor.idleness.ladder} == {"built-in"}

    async with ladder(tmp_path, "one") as b:
        await b.quiet()
        assert state(b) == "calibrated"
        assert price(b, Depth.OFF).power_w == pytest.approx(50.0)


async def test_real_moves_refine_it(tmp_path: Path) -> None:
    """A machine that has become slower is priced so, by and by; and the next daemon knows."""
    async with ladder(tmp_path) as b:
        await calibrated(b)
        old_s, old_j = (getattr(price(b, Depth.PARKED), n).mean for n in ("wake_s", "wake_j"))
        slow, wake = 10.0, b.engine.wake

        async def slower() -> None:
            await b.clock.sleep(slow)
            await wake()

        b.engine.wake = slower  # type: ignore[method-assign]
        seen = []
        for _ in range(60):
            await b.send("a person asks")
            await b.clock.advance(slow + IDLE_S + 20)
            seen.append(price(b, Depth.PARKED).wake_s.mean)
        assert old_s < seen[0] < old_s + slow / 2
        assert seen[-1] == pytest.approx(old_s + slow, rel=0.1)
        # What the slow part draws is what was drawn at rest before it.
        slow_j = old_j + slow * WATTS[Depth.PARKED]
        assert price(b, Depth.PARKED).wake_j.mean == pytest.approx(slow_j, rel=0.1)

    async with ladder(tmp_path) as b:
        await b.quiet()
        assert price(b, Depth.PARKED).wake_s.mean == pytest.approx(seen[-1])
        rung = next(r for r in b.supervisor.idleness.ladder if r.depth is Depth.PARKED)
        assert rung.wake_s >= seen[-1] * 0.99


async def test_without_a_meter(tmp_path: Path) -> None:
    """Seconds are measured all the same, quickly; watts stay guesses, and it says so."""
    config = msgspec.structs.replace(configured(tmp_path), energy=Energy(meter="none"))
    async with ladder(tmp_path, config=config, metered=False) as b:
        async with Follower(b) as follower:
            await b.clock.advance(WHOLE_S)

        assert follower.end == "calibrated"
        assert b.intake.calibration()["measured"] is False
        found = price(b, Depth.STOPPED)
        assert (found.power_w, found.source, found.wake_j.count) == (None, None, 0)
        assert found.wake_s.mean == pytest.approx(UP_S[Depth.STOPPED])
        rung = next(r for r in b.supervisor.idleness.ladder if r.depth is Depth.STOPPED)
        assert (rung.source, rung.power_w) == ("built-in", 79.0)
        assert rung.wake_s == pytest.approx(UP_S[Depth.STOPPED])


async def test_an_estimate_says_so(tmp_path: Path) -> None:
    """Watts from CPU time are no measurement."""
    async with ladder(tmp_path, source="estimate") as b:
        await calibrated(b)

        assert b.intake.calibration()["estimated"] is True
        assert {rung.source for rung in b.supervisor.idleness.ladder} == {"estimate"}


async def test_a_meter_that_would_wake_the_device(tmp_path: Path) -> None:
    """Where it may not be looked at, nothing is promised: as much as on the rung above."""
    async with ladder(tmp_path) as b:
        b.meter.wakes_device = True
        await calibrated(b)

        assert price(b, Depth.PARKED).power_w == pytest.approx(70.0)
        assert price(b, Depth.OFF).power_w is None
        assert [rung.power_w for rung in b.supervisor.idleness.ladder][-2:] == [70.0, 70.0]
        assert price(b, Depth.OFF).wake_s.mean == pytest.approx(UP_S[Depth.OFF])


async def test_watts_that_never_become_level(tmp_path: Path) -> None:
    """It does not wait for ever; the spread says what they are worth."""
    async with ladder(tmp_path) as b:
        dice = random.Random(1)
        draw = b.meter.draw

        def noisy(power_w: float) -> None:
            draw(power_w + dice.uniform(0, 40))

        b.meter.draw = noisy  # type: ignore[method-assign]
        async with Follower(b, Calibrate(cycles=1, over_s=12.0)) as follower:
            for _ in range(800):
                await b.clock.advance(0.7)
                b.meter.draw(WATTS[b.where[1]])

        assert follower.end == "calibrated"
        assert price(b, Depth.LIGHT).spread_w > 2.0


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


async def test_what_the_boost_switch_saves(tmp_path: Path) -> None:
    """Started once as shipped, then anew as it should be; savings know of it. Once is enough."""
    async with ladder(tmp_path) as b:
        b.engine.as_shipped = False
        await calibrated(b)

        assert b.intake.calibration()["boost_w"] == pytest.approx(BOOST_W, abs=0.1)
        assert b.engine.as_shipped is False
        assert b.machine.boosted is False
        assert b.where == PARKED
        kept = await b.rows("SELECT value FROM learned WHERE name = 'boost_w'")
        assert kept == [(pytest.approx(BOOST_W, abs=0.1),)]
        starts = b.engine.calls.count("start")
        await calibrated(b)
        assert b.engine.calls.count("start") == starts

    async with ladder(tmp_path) as b:
        await b.quiet()
        assert b.intake.calibration()["boost_w"] == pytest.approx(BOOST_W, abs=0.1)


@pytest.mark.parametrize("how", ["leaves", "asks", "rests"])
async def test_nobody_is_left_with_an_engine_as_shipped(tmp_path: Path, how: str) -> None:
    """Whoever ends the comparison: what runs as shipped is started anew."""
    async with ladder(tmp_path) as b:
        b.engine.as_shipped = False
        async with Follower(b) as follower:
            while not b.machine.boosted:
                await b.clock.advance(1.0)
            await b.clock.advance(TAIL_S + 1)
            match how:
                case "leaves":
                    await follower.leave()
                case "asks":
                    await b.send("a person asks")
                    assert set((await b.states()).values()) == {"done"}
                case _:
                    b.intake.rest("light")
            await b.clock.advance(WHOLE_S + 2 * IDLE_S)

        assert b.engine.as_shipped is False
        await b.send("and another")
        await b.clock.advance(max(UP_S.values()))
        assert b.machine.boosted is False
        assert set((await b.states()).values()) == {"done"}


async def test_a_policy_that_never_rests(tmp_path: Path) -> None:
    """It is measured, and then it is awake again."""
    async with ladder(tmp_path, config=configured(tmp_path, policy="always_on")) as b:
        b.intake.wake()
        await b.clock.advance(UP_S[Depth.OFF])
        await calibrated(b)

        assert b.where == AWAKE


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
