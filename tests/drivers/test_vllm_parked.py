"""VllmEngine parked by a libcuda that checkpoints nothing: the contract, and what may go wrong."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from drivers.checkpointer import Direct, Verb
from drivers.errors import (
    Denied,
    Died,
    DriverError,
    NotPermitted,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.protocols import Engine
from drivers.tenants import Look
from drivers.vllm import VllmEngine
from tests.conftest import required
from tests.contracts.engine import answer
from tests.drivers.conftest import children
from tests.drivers.parts import make_engine, started
from tests.drivers.vllm_contract import VllmContract
from tests.fakes.cuda import FakeCuda, FakeTenants, compiler


class Leader(FakeTenants):
    """The engine's leader is on the GPU."""

    def look(self) -> Look:
        self.pids = [child.pid for child in children() if serves(child)]
        return super().look()


def serves(child: psutil.Process) -> bool:
    try:
        return "vllm_server.py" in str(child.cmdline())
    except psutil.NoSuchProcess:
        return False  # it ended between being listed and being looked at


def parking_engine(place: Path, cuda: FakeCuda) -> VllmEngine:
    return make_engine(
        place,
        "--start-s",
        "0.1",
        sleep_level=1,
        checkpointer=Direct(limit_s=10, env=cuda.env),
        tenants=Leader(cuda),
    )


def leader(engine: VllmEngine) -> int:
    assert engine._facts is not None
    return engine._facts.pids[0]


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine() -> AsyncIterator[VllmEngine]:
    required("gcc", compiler())
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = parking_engine(Path(place), FakeCuda(Path(place) / "cuda"))
        yield engine
        await engine.dismiss()


@pytest.mark.asyncio(loop_scope="class")
class TestParkingVllm(VllmContract):
    """An engine that can be parked keeps all promises."""

    async def test_it_offers_all(self, engine: Engine) -> None:
        """Both ways to rest with a living process are tried by this suite."""
        await engine.start()

        assert not {"sleep", "park"} & engine.lacks.keys()


async def test_parked_and_woken(place: Path, cuda: FakeCuda) -> None:
    """park() checkpoints; wake() restores, then wakes; requests meanwhile are refused."""
    async with started(parking_engine(place, cuda)) as engine:
        pid = leader(engine)
        await engine.sleep()
        await engine.park()

        assert cuda.state(pid) == "checkpointed"

        with pytest.raises(Unresponsive):
            await answer(engine)
        await engine.wake()

        assert cuda.state(pid) == "running"
        assert await answer(engine)


async def test_death_while_parked(place: Path, cuda: FakeCuda) -> None:
    """It is noticed as ever, and the next life starts from nothing."""
    async with started(parking_engine(place, cuda)) as engine:
        await engine.sleep()
        await engine.park()
        psutil.Process(leader(engine)).kill()
        with pytest.raises(Died):
            await engine.died()
        with pytest.raises(Died):
            await engine.wake()
        await engine.start()

        assert await answer(engine)


async def test_refused_is_as_before(place: Path, cuda: FakeCuda) -> None:
    """After a park that failed and went back the engine sleeps, and wakes."""
    async with started(parking_engine(place, cuda)) as engine:
        await engine.sleep()
        cuda.plan("fail", "checkpoint", 2)
        with pytest.raises(Refused, match="OUT_OF_MEMORY"):
            await engine.park()
        await engine.wake()

        assert await answer(engine)


async def test_what_the_driver_cannot_is_not_offered_again(place: Path, cuda: FakeCuda) -> None:
    """A driver or a system that forbids it is asked once; the reason is kept."""
    async with started(parking_engine(place, cuda)) as engine:
        await engine.sleep()
        cuda.plan("fail", "lock", 801)
        with pytest.raises(NotSupported):
            await engine.park()

        assert "CUDA_ERROR_NOT_SUPPORTED" in engine.lacks["park"]

        calls = len(cuda.calls)
        with pytest.raises(NotSupported):
            await engine.park()

        assert len(cuda.calls) == calls


class Saying:
    """A checkpointer that always says so."""

    def __init__(self, error: DriverError) -> None:
        self._error = error

    async def move(self, verb: Verb, pidfds: Sequence[int]) -> None:
        raise self._error

    async def forget(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Denied("wattnap-power", "not in a control group"), True),
        (NotPermitted("checkpoint", "needs root"), False),
        (NotSupported("checkpoint", "no such function"), False),
    ],
)
async def test_a_new_life_may_be_parked_unless_none_can(
    place: Path, cuda: FakeCuda, error: DriverError, again: bool
) -> None:
    """What was denied to one life is asked for the next; what no life is given, is not."""
    engine = make_engine(
        place, "--start-s", "0.1", sleep_level=1, checkpointer=Saying(error), tenants=Leader(cuda)
    )
    async with started(engine):
        await engine.sleep()
        with pytest.raises(NotSupported):
            await engine.park()

        assert str(error) in engine.lacks["park"]

        await engine.stop()
        await engine.start()

        assert ("park" not in engine.lacks) is again


async def test_a_restore_that_fails(place: Path, cuda: FakeCuda) -> None:
    """Is Unresponsive; stop() ends it from there, and it starts anew."""
    async with started(parking_engine(place, cuda)) as engine:
        await engine.sleep()
        await engine.park()
        cuda.plan("fail", "restore", 2)
        with pytest.raises(Unresponsive, match="now checkpointed"):
            await engine.wake()
        await engine.stop()

        assert not children()

        cuda.heal()
        await engine.start()

        assert await answer(engine)


async def test_without_a_checkpointer(place: Path) -> None:
    """It is not offered, with the reason."""
    async with started(make_engine(place, sleep_level=1)) as engine:
        assert engine.lacks["park"] == "there is no GPU to leave"
