"""The first start, done before anybody waits for it: fake engine, fake clock, real SQLite."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from appliance.commands.power import describe
from appliance.config import Config
from appliance.errands.bake import FAILED_BAKES
from appliance.errands.errand import TRIES
from appliance.machine.lifecycle import State
from appliance.notices import Baking
from drivers.errors import Died, NotSupported, OutOfMemory, Unresponsive
from drivers.protocols import Rest
from policies.ladder import Depth
from tests.benches import IDLE_S, NOTHING_BETWEEN, Bench, bench, configured

START_S, SLEEP_S, PARK_S, WAKE_S = 100.0, 20.0, 2.0, 1.0
PARKED = (State.ASLEEP, Depth.PARKED)
AWAKE = (State.AWAKE, Depth.AWAKE)
OFF = (State.ASLEEP, Depth.OFF)

# wake, sleep, wake, park (by way of sleep), wake; then it goes to rest.
WHOLE_S = START_S + SLEEP_S + WAKE_S + SLEEP_S + PARK_S + WAKE_S
DAY_S = 86400.0


def baking(
    folder: Path,
    recipe: str = "one",
    *,
    config: Config | None = None,
    lacks: Mapping[Rest, str] = MappingProxyType({}),
    to_prepare: int = 1,
) -> AbstractAsyncContextManager[Bench]:
    """A machine that can do everything but what it `lacks`; its engine takes its time to start."""
    return bench(
        folder,
        config=config,
        start_s=START_S,
        lacks=lacks,
        recipe=recipe,
        to_prepare=to_prepare,
    )


def begin(b: Bench) -> None:
    """As the daemon does when it has started; from now on each move takes its time."""

    def slow(move: Callable[[], Awaitable[Any]], seconds: float) -> Callable[[], Awaitable[Any]]:
        async def take_time() -> Any:  # whatever it returns
            await b.clock.sleep(seconds)
            return await move()

        return take_time

    for name, seconds in (("sleep", SLEEP_S), ("park", PARK_S), ("wake", WAKE_S)):
        setattr(b.engine, name, slow(getattr(b.engine, name), seconds))
    b.appliance.bake.look(bake=True)


def state(b: Bench) -> str | None:
    told = b.intake.state()["bake"]
    return told and str(told["state"])


class Ends:
    """How bakes have ended, as those are told who listen."""

    def __init__(self) -> None:
        self.told: list[Baking] = []

    def wants(self, notice: object) -> bool:
        if isinstance(notice, Baking) and notice.step in {"baked", "failed", "stopped"}:
            self.told.append(notice)
        return False


async def outcomes(b: Bench) -> list[tuple[str, str]]:
    rows = await b.rows("SELECT recipe, outcome FROM baked ORDER BY seq")
    return [(str(recipe), str(outcome)) for recipe, outcome in rows]


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
