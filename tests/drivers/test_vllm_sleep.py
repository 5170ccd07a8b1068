"""Sleep and wake over a process that speaks vLLM's HTTP, and what may go wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from drivers.errors import Died, NotSupported, Unresponsive
from drivers.vllm import VllmEngine
from drivers.vllm_rest import SleepLevel
from tests.contracts.engine import answer
from tests.drivers.parts import make_engine, started
from tests.drivers.vllm_contract import VllmContract


@pytest_asyncio.fixture(scope="class", loop_scope="class", params=[1, 2])
async def shared_engine(request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = make_engine(Path(place), "--start-s", "0.1", sleep_level=request.param)
        yield engine
        await engine.stop()


@pytest.mark.asyncio(loop_scope="class")
class TestSleepingStandIn(VllmContract):
    """An engine that can sleep keeps all promises, at either level."""

    begins_with = 2


@pytest.mark.parametrize("level", [1, 2])
async def test_it_sleeps_and_wakes(place: Path, level: SleepLevel) -> None:
    """Asked twice is asked once, both ways, and in between nothing is sent to it."""
    async with started(make_engine(place, sleep_level=level)) as engine:
        assert "sleep" not in engine.lacks

        await engine.sleep()
        await engine.sleep()
        with pytest.raises(Unresponsive, match="asleep"):
            await answer(engine)
        await engine.wake()
        await engine.wake()

        assert await answer(engine)


async def test_its_sleep_is_prepared_in_pieces(place: Path) -> None:
    """It serves in between; what is done once is not done again in its life."""
    async with started(make_engine(place, "--image-pieces", "3", sleep_level=2)) as engine:
        assert await engine.prepare()
        assert await answer(engine)
        assert await engine.prepare()
        assert not await engine.prepare()
        assert not await engine.prepare()

        await engine.sleep()

        assert not await engine.prepare()


async def test_a_sleep_that_takes_too_long_to_prepare(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps without; the next one goes on with it."""
    monkeypatch.setattr("drivers.vllm_rest.IMAGE_S", 0.0001)
    switches = ("--image-pieces", "9", "--image-sleeps", "2")
    async with started(make_engine(place, *switches, sleep_level=2)) as engine:
        assert await engine.prepare()
        assert not await engine.prepare()
        assert await engine.sleep()
        await engine.wake()

        assert await engine.prepare()


@pytest.mark.parametrize("fault", [(), ("--sleep-fault", "damage")])
async def test_an_image_that_was_no_good_is_prepared_anew(
    place: Path, fault: tuple[str, ...]
) -> None:
    """The weights came from their files: the next sleep has all of it to do again."""
    switches = ("--image-pieces", "3", *fault)
    async with started(make_engine(place, *switches, sleep_level=2)) as engine:
        await engine.sleep()
        await engine.wake()

        assert await engine.prepare() == bool(fault)


async def test_level_1_has_nothing_to_prepare(place: Path) -> None:
    """Its weights stay in RAM."""
    async with started(make_engine(place, "--sleep-fault", "prepare", sleep_level=1)) as engine:
        assert not await engine.prepare()


async def test_preparing_fails(place: Path) -> None:
    """Unresponsive, with the reason: its worker did not answer as it should."""
    async with started(make_engine(place, "--sleep-fault", "prepare", sleep_level=2)) as engine:
        with pytest.raises(Unresponsive, match="Memory usage increased"):
            await engine.prepare()


async def test_nothing_is_sent_while_it_falls_asleep(place: Path) -> None:
    """From the order on, before it is carried out."""
    async with started(make_engine(place, "--sleep-s", "0.3", sleep_level=2)) as engine:
        async with asyncio.TaskGroup() as group:
            falling = group.create_task(engine.sleep())
            await asyncio.sleep(0.1)
            with pytest.raises(Unresponsive):
                await answer(engine)

            assert not falling.done()

        await engine.wake()

        assert await answer(engine)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("sleep", "Memory usage increased"),
        ("insomnia", "not asleep"),
        ("nonsense", "without a state"),
        ("hoard", "it freed 0 of 1000 bytes"),
    ],
)
async def test_a_failed_sleep(
    place: Path, fault: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unresponsive, with the reason. It serves no more, nor wakes; stopped, it starts anew."""
    monkeypatch.setattr("drivers.vllm_rest.SETTLE_S", 0.2)
    switches = ("--sleep-fault", fault, "--pool-bytes", "1000")
    async with started(make_engine(place, *switches, sleep_level=2)) as engine:
        with pytest.raises(Unresponsive, match=why):
            await engine.sleep()
        with pytest.raises(Unresponsive):
            await engine.wake()
        with pytest.raises(Unresponsive):
            await answer(engine)
        await engine.stop()
        await engine.start()

        assert await answer(engine)


async def test_somebody_takes_what_it_has_freed(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is what it sleeps for: it is asleep, and wakes as ever."""
    caplog.set_level("INFO", "drivers.vllm_rest")
    switches = ("--sleep-fault", "crowd", "--pool-bytes", "1000")
    async with started(make_engine(place, *switches, sleep_level=2)) as engine:
        await engine.sleep()

        assert "freed 0 of 1000 bytes" in caplog.text

        await engine.wake()

        assert await answer(engine)


@pytest.mark.parametrize(
    ("fault", "why"),
    [("wake", "wake failed"), ("coma", "not awake"), ("hang", "no answer to /wattnap/wake")],
)
async def test_a_failed_wake(
    place: Path, fault: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise; a wake that never ends is given up after `wake_timeout_s`."""
    monkeypatch.setattr("drivers.vllm_rest.SETTLE_S", 0.2)
    engine = make_engine(place, "--sleep-fault", fault, sleep_level=2, wake_timeout_s=0.5)
    async with started(engine):
        await engine.sleep()
        with pytest.raises(Unresponsive, match=why):
            await engine.wake()
        with pytest.raises(Unresponsive):
            await answer(engine)
        await engine.stop()
        await engine.start()

        assert await answer(engine)


async def test_it_dies_of_waking(place: Path) -> None:
    """Died, at once, and told to whoever watches."""
    async with started(make_engine(place, "--sleep-fault", "die", sleep_level=1)) as engine:
        await engine.sleep()
        with pytest.raises(Died):
            await engine.wake()
        async with asyncio.timeout(5):
            with pytest.raises(Died):
                await engine.died()


async def test_a_cancelled_sleep_is_a_failed_one(place: Path) -> None:
    """Nobody knows how far it came."""
    async with started(make_engine(place, "--sleep-s", "5", sleep_level=1)) as engine:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await engine.sleep()
        with pytest.raises(Unresponsive):
            await engine.wake()


@pytest.mark.parametrize(
    ("level", "version", "switches", "why"),
    [
        (0, "0.32.0", (), "sleep_level is 0"),
        (2, "0.16.0", (), "0.16.0"),
        (2, "0.32.0", ("--sleep-fault", "state"), "Memory usage"),
        (2, "0.32.0", ("--pool-bytes", "0"), "sleep mode is off"),
    ],
)
async def test_why_it_cannot(
    place: Path, level: SleepLevel, version: str, switches: tuple[str, ...], why: str
) -> None:
    """What cannot sleep says so once it has started, and serves."""
    engine = make_engine(place, *switches, sleep_level=level, version=version)
    async with started(engine):
        assert why in engine.lacks["sleep"]

        with pytest.raises(NotSupported):
            await engine.sleep()
        await engine.wake()

        assert await answer(engine)


async def test_it_says_what_a_quick_wake_still_lacks(place: Path) -> None:
    """Other words as long as each sleep gets on with it, none in the end."""
    async with started(make_engine(place, "--image-sleeps", "3", sleep_level=2)) as engine:
        said = []
        for _ in range(4):
            said.append(await engine.sleep())
            assert await engine.sleep() == said[-1]
            await engine.wake()

        assert said == ["2 sleeps are missing", "1 sleeps are missing", "", ""]
