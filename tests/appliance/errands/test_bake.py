"""The first start, done before anybody waits for it: fake engine, fake clock, real SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.commands.power import describe
from appliance.machine.lifecycle import State
from drivers.errors import NotSupported
from policies.ladder import Depth
from tests.appliance.errands.baking import (
    DAY_S,
    PARK_S,
    SLEEP_S,
    START_S,
    WHOLE_S,
    Ends,
    baking,
    begin,
    outcomes,
    state,
)
from tests.benches import AWAKE, NOTHING_BETWEEN, PARKED, configured


async def test_it_bakes_by_itself(tmp_path: Path) -> None:
    """It starts, sleeps, is parked, comes back from each, and rests where the policy rests."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(WHOLE_S - 0.1)
        assert state(b) == "baking"

        await b.clock.advance(0.2)
        assert state(b) == "baked"
        await b.clock.advance(SLEEP_S + PARK_S)
        assert b.where == PARKED
        assert b.engine.calls == [
            *("start", "sleep", "wake", "sleep", "park", "wake"),
            *("sleep", "park"),
        ]
        ((seconds, causes),) = await b.rows(
            "SELECT seconds, (SELECT group_concat(DISTINCT cause) FROM ledger_transition)"
            " FROM baked"
        )
        assert seconds == pytest.approx(WHOLE_S)
        assert causes == "bake"


async def test_what_it_took_is_in_the_ledger(tmp_path: Path) -> None:
    """The joules of all moves that were made for it, until it was done."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(WHOLE_S)

        assert await b.rows("SELECT energy_j, outcome, error, missing FROM baked") == [
            (pytest.approx(10 * WHOLE_S), "ok", None, None)
        ]


async def test_what_is_baked_is_not_baked_again(tmp_path: Path) -> None:
    """Not by the next daemon; but for another recipe, and for the first one when that is gone."""
    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(WHOLE_S)

    async with baking(tmp_path) as b:
        begin(b)
        await b.clock.advance(DAY_S)
        assert b.engine.calls == []
        assert state(b) == "baked"

    async with baking(tmp_path, "two") as b:
        begin(b)
        await b.quiet()
        assert b.where == (State.WAKING, Depth.OFF)
        await b.clock.advance(WHOLE_S)
        assert await outcomes(b) == [("one", "ok"), ("two", "ok")]


async def test_it_sleeps_until_nothing_is_missing(tmp_path: Path) -> None:
    """An image that takes three sleeps gets them."""
    async with baking(tmp_path, to_prepare=3) as b:
        begin(b)
        await b.clock.advance(2 * WHOLE_S)

        assert b.engine.calls[:8] == ["start", *("sleep", "wake") * 3, "sleep"]
        assert await b.rows("SELECT missing FROM baked") == [(None,)]


async def test_what_sleeping_does_not_mend(tmp_path: Path) -> None:
    """A disk that is too small: it is baked as far as it can be, and that is told."""
    async with baking(tmp_path, lacks={"park": "no GPU"}) as b:

        async def sleep() -> str:
            b.engine.calls.append("sleep")
            return "the disk is too small"

        b.engine.sleep = sleep  # type: ignore[method-assign]
        begin(b)
        await b.clock.advance(2 * WHOLE_S)

        assert b.engine.calls == ["start", "sleep", "wake", "sleep", "wake", "stop"]
        assert state(b) == "baked"
        assert "wakes could be quicker: the disk is too small" in describe(b.intake.state())


async def test_without_rests_it_is_one_start(tmp_path: Path) -> None:
    """A machine that can only be on or off."""
    async with baking(tmp_path, lacks=NOTHING_BETWEEN) as b:
        begin(b)
        await b.clock.advance(START_S)

        assert b.engine.calls == ["start", "stop", "dismiss"]
        assert state(b) == "baked"


async def test_what_it_cannot_do_is_known_after_the_start(tmp_path: Path) -> None:
    """An engine that turns out to have no sleep is not sent to sleep."""
    async with baking(tmp_path) as b:
        start = b.engine.start

        async def without_sleep() -> Any:
            b.engine.lacks = {"sleep": "its version cannot"}
            return await start()

        b.engine.start = without_sleep  # type: ignore[method-assign]
        begin(b)
        await b.clock.advance(START_S)

        assert await outcomes(b) == [("one", "ok")]
        assert b.engine.calls == ["start", "stop"]


async def test_what_turns_out_not_to_work_is_left_out(tmp_path: Path) -> None:
    """Parking is refused for good at its first try: baked, without it."""
    async with baking(tmp_path) as b:

        async def park() -> None:
            b.engine.lacks = {"park": "the driver will not"}
            raise NotSupported("fake", "the driver will not")

        b.engine.park = park  # type: ignore[method-assign]
        begin(b)
        await b.clock.advance(3 * WHOLE_S)

        assert await outcomes(b) == [("one", "ok")]
        assert b.where[0] is State.ASLEEP


async def test_what_is_kept_warm_is_baked_later(tmp_path: Path) -> None:
    """The promise to keep it awake is older than the wish to bake it."""
    async with baking(tmp_path) as b:
        b.intake.wake(3600.0)
        await b.clock.advance(START_S)
        b.intake.bake()
        await b.clock.advance(3600.0 - START_S - 1)
        assert b.where == AWAKE

        await b.clock.advance(WHOLE_S)
        assert await outcomes(b) == [("one", "ok")]


async def test_not_by_itself_where_that_is_not_wanted(tmp_path: Path) -> None:
    """power.bake = false: it is told that it is not baked; the operator's word does it."""
    async with baking(tmp_path) as b:
        b.appliance.bake.look(bake=False)
        await b.clock.advance(DAY_S)
        assert b.engine.calls == []
        assert "not baked yet" in "\n".join(describe(b.intake.state()))

        b.intake.bake()
        await b.clock.advance(WHOLE_S)
        assert state(b) == "baked"


async def test_an_engine_with_nothing_to_prepare(tmp_path: Path) -> None:
    """It is not started, and nobody is told that anything is amiss."""
    async with baking(tmp_path, "") as b:
        begin(b)
        await b.clock.advance(DAY_S)

        assert b.engine.calls == []
        assert state(b) is None


async def test_the_operator_asks(tmp_path: Path) -> None:
    """What is baked is told at once; `again` does it once more; who comes in between joins."""
    async with baking(tmp_path) as b:
        begin(b)
        ends = Ends()
        with b.intake.notices.subscribed(ends.wants):
            b.intake.bake()
            await b.clock.advance(WHOLE_S)
            assert [end.step for end in ends.told] == ["baked"] * 2

            ends.told.clear()
            b.intake.bake()
            await b.quiet()
            (told,) = ends.told
            assert told.at is not None
            assert told.seconds == pytest.approx(WHOLE_S)

            ends.told.clear()
            b.intake.bake(again=True)
            await b.clock.advance(1)
            b.intake.bake()
            await b.clock.advance(WHOLE_S)
            assert [end.step for end in ends.told] == ["baked"]
        assert await outcomes(b) == [("one", "ok")] * 2


async def test_the_operator_does_not_wait_for_the_policy(tmp_path: Path) -> None:
    """His bake begins at once, though somebody asked a moment ago, and ends a long pause."""
    async with baking(tmp_path) as b:
        b.engine.fail_next = NotSupported("fake", "no such flag")
        await b.send("a person asks")
        assert b.where == (State.FAILED, Depth.OFF)

        b.intake.bake()
        await b.clock.advance(START_S)
        assert await outcomes(b) == [("one", "ok")]


async def test_a_policy_that_never_rests(tmp_path: Path) -> None:
    """The operator may have it baked all the same; then it is awake again."""
    config = configured(tmp_path, policy="always_on")
    async with baking(tmp_path, config=config) as b:
        b.intake.wake()
        await b.clock.advance(START_S)
        begin(b)
        b.intake.bake(again=True)
        await b.clock.advance(DAY_S)

        assert b.where == AWAKE
        assert set(await outcomes(b)) == {("one", "ok")}


async def test_a_policy_without_patience(tmp_path: Path) -> None:
    """It rests the moment nobody asks: the bake comes to its end all the same."""
    config = configured(tmp_path, idle_timeout_s=0.0)
    async with baking(tmp_path, config=config) as b:
        begin(b)
        await b.clock.advance(WHOLE_S)

        assert await outcomes(b) == [("one", "ok")]


async def test_the_recipe_cannot_be_had(tmp_path: Path) -> None:
    """No model, no bake: that is told, and the daemon goes on."""
    async with baking(tmp_path) as b:

        async def recipe() -> str:
            raise NotSupported("fake", "vLLM 0.3 is too old")

        b.engine.recipe = recipe  # type: ignore[method-assign]
        begin(b)
        await b.quiet()

        assert "the bake failed: fake: vLLM 0.3 is too old" in "\n".join(describe(b.intake.state()))
