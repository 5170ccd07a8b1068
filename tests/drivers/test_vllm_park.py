"""Parking an engine: which processes, seen to be off the GPU, and every way it can fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from drivers.checkpointer import Direct
from drivers.errors import Died, NotPresent, Refused, Unresponsive
from drivers.process import Child
from drivers.tenants import Look
from drivers.vllm_park import VACATE_S, Park, why_not_park
from tests.drivers.parts import has_ended
from tests.fakes.cuda import FakeCuda, FakeTenants

# A leader with a child that has the title of vLLM's core, and one that has not.
ENGINE = (
    "import subprocess, time; "
    "subprocess.Popen(['VLLM::EngineCore', '60'], executable='/bin/sleep'); "
    "subprocess.Popen(['sleep', '60']); time.sleep(60)"
)


class Blind:
    """Nobody can tell who is on the GPU."""

    def look(self) -> Look:
        raise NotPresent("nvml", "no library")


class Elsewhere(FakeTenants):
    """Shows other numbers than ours: of another pid namespace."""

    def look(self) -> Look:
        look = super().look()
        return Look({pid + 10**7: held for pid, held in look.bytes_by_pid.items()}, look.used_bytes)


@contextlib.asynccontextmanager
async def engine(place: Path) -> AsyncIterator[tuple[Child, int]]:
    """A running one, and the pid of its core."""
    folder = place / "engine"
    folder.mkdir()
    child = Child("engine")
    python = shutil.which("python3", path=os.defpath) or sys.executable
    try:
        await child.start([python, "-c", ENGINE], env=os.environ, directory=folder)
        async with asyncio.timeout(10):
            while not (core := [pid for pid in child.others if titled(pid)]):
                await asyncio.sleep(0.05)
                await child.note()
        yield child, core[0]
    finally:
        await child.kill()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def titled(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"VLLM::")


async def test_the_listed_one_is_parked(cuda: FakeCuda, place: Path) -> None:
    """What the GPU lists of the engine, and nothing else, is checkpointed and restored."""
    async with engine(place) as (child, core):
        tenants = FakeTenants(cuda, child.pid, 1)
        park = Park("engine", Direct(env=cuda.env), tenants)
        await park.park(child)

        assert cuda.state(child.pid) == "checkpointed"
        assert cuda.state(core) == "running"

        await park.unpark()
        await park.forget()

        assert cuda.state(child.pid) == "running"
        assert cuda.calls == ["lock", "checkpoint", "restore", "unlock"]


@pytest.mark.parametrize("view", [Blind, Elsewhere])
async def test_the_core_is_known_by_its_title(cuda: FakeCuda, place: Path, view: type) -> None:
    """Where the GPU's list is of no use, vLLM's own titles are."""
    async with engine(place) as (child, core):
        tenants = view() if view is Blind else view(cuda, core)
        park = Park("engine", Direct(env=cuda.env), tenants)
        await park.park(child)

        assert cuda.state(core) == "checkpointed"
        assert cuda.state(child.pid) == "running"

        await park.unpark()
        await park.forget()


async def test_twice_is_once(cuda: FakeCuda, place: Path) -> None:
    """A parked one stays parked; an awake one stays awake."""
    async with engine(place) as (child, _):
        park = Park("engine", Direct(env=cuda.env), Blind())
        await park.unpark()
        await park.park(child)
        await park.park(child)

        assert cuda.calls == ["lock", "checkpoint"]


async def test_still_on_the_gpu(
    cuda: FakeCuda, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's word is not enough: what the GPU goes on showing is Unresponsive."""
    monkeypatch.setattr("drivers.vllm_park.VACATE_S", 0.3)
    async with engine(place) as (child, core):
        tenants = FakeTenants(cuda, core)
        tenants.stuck = True
        with pytest.raises(Unresponsive, match="does not show"):
            await Park("engine", Direct(env=cuda.env), tenants).park(child)


async def test_somebody_takes_the_memory_at_once(cuda: FakeCuda, place: Path) -> None:
    """Where the GPU lists none of ours, memory that stays in use may be anybody's."""
    async with engine(place) as (child, core):
        tenants = Elsewhere(cuda, core)
        tenants.stuck = True
        async with asyncio.timeout(VACATE_S):
            await Park("engine", Direct(env=cuda.env), tenants).park(child)

        assert cuda.state(core) == "checkpointed"


async def test_nobody_on_the_gpu(cuda: FakeCuda, place: Path) -> None:
    """An engine without a context is Refused, as before."""
    folder = place / "engine"
    folder.mkdir()
    child = Child("engine")
    await child.start(["sleep", "60"], env=os.environ, directory=folder)
    with pytest.raises(Refused, match="none of its processes"):
        await Park("engine", Direct(env=cuda.env), Blind()).park(child)
    await child.kill()


async def test_a_dead_engine(cuda: FakeCuda, place: Path) -> None:
    """After its end it is Died, not a wait for ever."""
    async with engine(place) as (child, _):
        await child.kill()
        with pytest.raises(Died):
            await Park("engine", Direct(env=cuda.env), Blind()).park(child)


@pytest.mark.parametrize("hangs", ["the GPU", "the guard"])
async def test_whoever_hangs(
    cuda: FakeCuda, place: Path, hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is Unresponsive, and can be killed; no descriptor is left."""
    monkeypatch.setattr("drivers.vllm_park.TIMEOUT_S", 0.5)
    monkeypatch.setattr("drivers.process.KILL_PATIENCE_S", 0.5)
    over = threading.Event()

    class Stuck(Blind):
        def look(self) -> Look:
            if hangs == "the GPU":
                over.wait(10)
            return super().look()

    async with engine(place) as (child, core):
        await asyncio.to_thread(over.is_set)  # asyncio's threads have what they open
        before = open_files()
        if hangs == "the guard":
            guard = psutil.Process(core).parents()[1]
            guard.suspend()
        with pytest.raises(Unresponsive, match="not parked within"):
            await Park("engine", Direct(env=cuda.env), Stuck()).park(child)
        over.set()

        assert open_files() == before
        assert cuda.state(core) == "running"
    assert has_ended(core)


async def test_a_failed_park_can_be_tried_again(cuda: FakeCuda, place: Path) -> None:
    """Refused means as before: the next one works, and no descriptor is left."""
    async with engine(place) as (child, core):
        park = Park("engine", Direct(env=cuda.env), Blind())
        before = open_files()
        cuda.plan("fail", "checkpoint", 2)
        with pytest.raises(Refused):
            await park.park(child)

        assert open_files() == before
        assert cuda.state(core) == "running"

        cuda.heal()
        await park.park(child)
        await park.forget()

        assert open_files() == before


@pytest.mark.parametrize(
    ("device", "level", "why"),
    [("cpu", 1, "there is no GPU to leave"), ("cuda", 0, "it cannot sleep first"), ("cuda", 2, "")],
)
def test_why_not_park(device: str, level: int, why: str) -> None:
    """What an engine lacks for it is said in words."""
    assert why_not_park(device, level, Direct()) == why
    assert why_not_park(device, level, None)
