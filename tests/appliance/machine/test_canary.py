"""The check after each wake, and the ladder that it guards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.desk import Answer
from appliance.errors import BadRequest, StorageFailed
from appliance.machine.canary import PROMPT, Canary
from appliance.machine.lifecycle import State
from appliance.storage.store import Store
from drivers.errors import BadReading, Died, DriverError, Refused, Unresponsive
from drivers.fake import FakeEngine
from policies.ladder import Depth
from tests.benches import AWAKE, IDLE_S, Bench, bench
from tests.fake_clock import FakeClock


async def rested(b: Bench, depth: Depth) -> None:
    """Wake it by a prompt, and let it go down to `depth`."""
    await b.send("hello")
    await b.clock.advance(1)
    b.intake.rest(depth.name.lower())
    await b.quiet()
    assert b.where == (State.ASLEEP, depth)


async def moves(b: Bench) -> list[tuple[str, str, str]]:
    rows = await b.rows("SELECT from_depth, to_depth, outcome FROM ledger_transition ORDER BY seq")
    return [(str(here), str(to), str(outcome)) for here, to, outcome in rows]


@pytest.mark.parametrize(
    ("depth", "asked"),
    [
        (Depth.LIGHT, ["sleep", "wake"]),
        (Depth.PARKED, ["sleep", "park", "wake"]),
        (Depth.STOPPED, ["stop", "start"]),
        (Depth.OFF, ["stop", "dismiss", "start"]),
    ],
)
async def test_each_depth_and_back(tmp_path: Path, depth: Depth, asked: list[str]) -> None:
    """Down by its edges, up in one climb, checked before anybody is served."""
    async with bench(tmp_path, lacks={}) as b:
        await rested(b, depth)
        b.engine.calls.clear()
        b.engine.served.clear()
        before = await b.rows("SELECT count(*) FROM ledger_transition")
        await b.send("again")

        assert b.where == AWAKE
        assert [*asked[-1:]] == b.engine.calls
        assert [PROMPT.encode() in body for body in b.engine.served] == [True, False]
        ((edges,),) = before
        assert (await moves(b))[edges:] == [(depth.name.lower(), "awake", "ok")]
        assert set((await b.states()).values()) == {"done"}


async def test_rest_leads_where_the_policy_rests(tmp_path: Path) -> None:
    """Unless another depth is named: a wish to rest now is none to wake slowly."""
    async with bench(tmp_path, lacks={}) as b:
        await b.send("hello")
        b.intake.rest()
        await b.quiet()
        assert b.where == (State.ASLEEP, Depth.PARKED)


@pytest.mark.parametrize("depth", [Depth.LIGHT, Depth.PARKED])
async def test_who_waits_at_a_connection_outlives_a_failed_wake(
    tmp_path: Path, depth: Depth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not come back from sleep is started anew, and that one serves the call."""
    async with bench(tmp_path, lacks={}) as b:
        await rested(b, depth)

        async def wake() -> None:
            raise Died(b.engine.name, -9, "killed in its sleep")

        monkeypatch.setattr(b.engine, "wake", wake)
        asked = asyncio.create_task(b.ask("live"))
        await b.clock.advance(10)
        *_, answer = await asked

        assert isinstance(answer, Answer)
        assert b"live" in answer.payload
        assert (depth.name.lower(), "awake", "failed") in await moves(b)


async def test_a_prompt_between_two_edges_turns_it_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way to PARKED it is noticed at LIGHT: nothing is parked in vain."""
    async with bench(tmp_path, lacks={}) as b:
        await b.send("hello")
        at_once = b.engine.sleep

        async def sleep() -> None:
            await b.clock.sleep(1)
            await at_once()

        monkeypatch.setattr(b.engine, "sleep", sleep)
        b.intake.rest("parked")
        await b.quiet()
        assert b.where == (State.SETTLING, Depth.LIGHT)
        await b.send("now")
        await b.clock.advance(1)

        assert set((await b.states()).values()) == {"done"}
        assert b.engine.calls == ["start", "sleep", "wake"]
        assert b.where == AWAKE


async def test_what_comes_back_as_another_is_replaced(tmp_path: Path, broken: list[bool]) -> None:
    """The answer comes from an engine that was started anew; the ledger says why."""
    async with bench(tmp_path, lacks={}) as b:
        await rested(b, Depth.PARKED)
        broken.append(True)
        await b.send("again")
        broken.clear()
        await b.clock.advance(2)

        assert b.where == AWAKE
        assert set((await b.states()).values()) == {"done"}
        failed = [move for move in await moves(b) if move[-1] == "failed"]
        assert failed == [("parked", "awake", "failed")]
        assert b.engine.calls[-1] == "start"


async def test_twice_in_an_hour_it_sleeps_no_more(tmp_path: Path, broken: list[bool]) -> None:
    """What sleeps wrong is not put to sleep again; stopping and starting is still offered."""
    async with bench(tmp_path, lacks={}) as b:
        for _ in range(2):
            await rested(b, Depth.LIGHT)
            broken.append(True)
            await b.send("again")
            broken.clear()
            await b.clock.advance(5)
        with pytest.raises(BadRequest, match="offered: stopped, off"):
            b.intake.rest("light")


async def test_a_fresh_start_that_says_something_else_is_believed_when_it_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade may change words: the new ones are kept, with a warning."""
    async with bench(tmp_path) as b:
        await b.send("hello")
        ((said,),) = await b.rows("SELECT said FROM canary")
    speak_otherwise(monkeypatch, lambda n: "other words")
    async with bench(tmp_path) as b:
        await b.send("again")
        ((now_said,),) = await b.rows("SELECT said FROM canary")

        assert b.where == AWAKE
        assert (said, now_said) == ("wattnap", "other words")


async def test_a_fresh_start_that_cannot_decide_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two answers to the same greedy prompt: it is not served from; the prompt waits."""
    async with bench(tmp_path) as b:
        await b.send("hello")
    speak_otherwise(monkeypatch, lambda n: f"words {n}")
    async with bench(tmp_path) as b:
        await b.send({"prompt": "again", "wattnap": {"id": "a"}})

        assert b.where[0] is State.FAILED
        assert (await b.states())["a"] == "waiting"


async def test_a_wake_that_fails_is_a_fresh_start(tmp_path: Path) -> None:
    """From LIGHT and PARKED alike; the same for a descent that fails."""
    async with bench(tmp_path, lacks={}) as b:
        for depth in (Depth.LIGHT, Depth.PARKED):
            await rested(b, depth)
            b.engine.fail_next = Unresponsive("fake", "no answer")
            await b.send(f"after {depth.name}")
            await b.clock.advance(2)

            assert b.where == AWAKE
        b.engine.fail_next = Unresponsive("fake", "does not sleep")
        b.intake.rest("light")
        await b.quiet()

        assert b.where[0] is State.FAILED
        await b.clock.advance(2)
        assert b.where == (State.ASLEEP, Depth.OFF)
        assert b.engine.calls[-1] == "dismiss"
        assert set((await b.states()).values()) == {"done"}


FAILED_WAKE = Unresponsive("checkpoint", "unpark: restore: CUDA_ERROR_OUT_OF_MEMORY")
REFUSED_PARK = Refused("checkpoint", "park: lock: CUDA_ERROR_NOT_READY; now running")


async def sleeps_in_vain(b: Bench, way: str, error: DriverError, times: int) -> None:
    """Let it go to PARKED and back so often, while each `way` fails."""
    whole = getattr(b.engine, way)

    async def fail() -> None:
        raise error

    setattr(b.engine, way, fail)
    for _ in range(times):
        await b.send("hello")
        await b.clock.advance(5)
        b.intake.rest("parked")
        await b.quiet()
        await b.clock.advance(5)
    await b.send("hello")
    await b.clock.advance(5)
    setattr(b.engine, way, whole)
    assert set((await b.states()).values()) == {"done"}


async def test_an_engine_that_is_refused_its_parking_sleeps_on(tmp_path: Path) -> None:
    """Nothing is lost by it: neither the engine nor who comes then."""
    async with bench(tmp_path, lacks={}) as b:
        await sleeps_in_vain(b, "park", REFUSED_PARK, times=2)

        assert b.engine.calls.count("start") == 1
        assert (await moves(b))[-3:] == [
            ("awake", "light", "ok"),
            ("light", "parked", "failed"),
            ("light", "awake", "ok"),
        ]
        await rested(b, Depth.PARKED)


@pytest.mark.parametrize(
    ("way", "error", "left"),
    [
        ("park", REFUSED_PARK, "light, stopped, off"),
        ("park", Unresponsive("checkpoint", "no report"), "light, stopped, off"),
        ("wake", FAILED_WAKE, "light, stopped, off"),
        ("sleep", Unresponsive("vllm", "does not sleep"), "stopped, off"),
        ("prepare", Unresponsive("vllm", "does not answer"), "stopped, off"),
    ],
)
async def test_what_fails_again_and_again_is_offered_no_more(
    tmp_path: Path, way: str, error: DriverError, left: str
) -> None:
    """Three times in a row, whatever was answered in between; until hours later."""
    async with bench(tmp_path, lacks={}) as b:
        await sleeps_in_vain(b, way, error, times=2)
        await rested(b, Depth.PARKED)  # once it works: the next three count anew
        await b.send("hello")
        await sleeps_in_vain(b, way, error, times=3)
        with pytest.raises(BadRequest, match=f"offered: {left}$"):
            b.intake.rest("parked")

        await b.clock.advance(7 * 3600)
        await rested(b, Depth.OFF)
        await b.send("hello")
        await rested(b, Depth.PARKED)


async def test_without_rungs_between_it_is_on_or_off(tmp_path: Path) -> None:
    """ "auto" rests as little deep as leaves the GPU, and that is OFF where nothing else is."""
    async with bench(tmp_path) as b:
        await b.send("hello")
        await b.clock.advance(IDLE_S + 1)

        assert b.where == (State.ASLEEP, Depth.OFF)


async def test_a_disk_that_fails_is_no_excuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: list[bool]
) -> None:
    """What it said in this life is known without the database."""
    engine, store = FakeEngine(lacks={}), Store(tmp_path / "wattnap.db")
    await store.open()
    canary = Canary(engine, "main", store, FakeClock())

    async def full(_: object) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(store, "write", full)
    monkeypatch.setattr(store, "read", full)
    facts = await engine.start()
    await canary.check(facts.identity, warm=False)
    await engine.sleep()
    await engine.wake()
    await canary.check(facts.identity, warm=True)
    broken.append(True)
    with pytest.raises(BadReading):
        await canary.check(facts.identity, warm=True)

    await store.close()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it is not empty, an engine that woke from sleep talks nonsense."""
    switch: list[bool] = []
    whole = FakeEngine._answer

    def answer(self: FakeEngine, path: str, body: bytes, *, stream: bool) -> object:
        if switch and self.calls[-1] == "wake":
            body = body.replace(PROMPT.encode(), b"garbage")
        return whole(self, path, body, stream=stream)

    monkeypatch.setattr(FakeEngine, "_answer", answer)
    return switch


def speak_otherwise(monkeypatch: pytest.MonkeyPatch, words: object) -> None:
    """Have engines answer the check with `words(how often they were asked)`."""
    whole, asked = FakeEngine._answer, [0]

    def answer(self: FakeEngine, path: str, body: bytes, *, stream: bool) -> object:
        if PROMPT.encode() in body:
            asked[0] += 1
            body = body.replace(PROMPT.encode(), words(asked[0]).encode())  # type: ignore[operator]
        return whole(self, path, body, stream=stream)

    monkeypatch.setattr(FakeEngine, "_answer", answer)
