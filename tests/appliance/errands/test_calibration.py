"""The ladder, measured: every rung, whatever comes in between."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from appliance.commands.power import describe
from appliance.config import Energy
from appliance.desk import Calibrate
from policies.ladder import Depth
from tests.appliance.errands.laboratory import (
    BOOST_W,
    DOWN_S,
    DOWN_W,
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
from tests.benches import AWAKE, IDLE_S, PARKED, configured


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
