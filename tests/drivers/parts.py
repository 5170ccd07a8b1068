"""Engines to test with, and ways to look into them from outside."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import psutil

from drivers.checkpointer import Checkpointer
from drivers.procfs import find_stat, shared_memory
from drivers.protocols import EngineFacts, Reply
from drivers.tenants import Tenants
from drivers.vllm import VllmEngine
from drivers.vllm_rest import SleepLevel
from tests.contracts.engine import parse_events

SERVER = Path(__file__).parents[1] / "fakes/vllm_server.py"
STEADY = {"PYTEST_CURRENT_TEST": ""}
"""What pytest changes from test to test: with another environment goes another warm host."""


def make_engine(
    place: Path,
    *switches: str,
    start_timeout_s: float = 30,
    stop_timeout_s: float = 0.3,
    stall_timeout_s: float = 30,
    warm_host: bool = False,
    sleep_level: SleepLevel = 0,
    wake_timeout_s: float = 30,
    version: str = "0.32.0",
    checkpointer: Checkpointer | None = None,
    tenants: Tenants | None = None,
) -> VllmEngine:
    """An engine that starts the stand-in, with its switches; one with a checkpointer has a GPU."""
    return VllmEngine(
        python=Path(sys.executable),
        model="stand-in",
        served_name="stand-in",
        runtime_dir=place / "run",
        cache_dir=place / "cache",
        device="cuda" if checkpointer else "cpu",
        args=switches,
        env=STEADY,
        warm_host=warm_host,
        launch=((sys.executable, str(SERVER)), version),
        start_timeout_s=start_timeout_s,
        stop_timeout_s=stop_timeout_s,
        stall_timeout_s=stall_timeout_s,
        sleep_level=sleep_level,
        wake_timeout_s=wake_timeout_s,
        checkpointer=checkpointer,
        tenants=tenants,
    )


@contextlib.asynccontextmanager
async def started(engine: VllmEngine) -> AsyncIterator[VllmEngine]:
    try:
        await engine.start()
        yield engine
    finally:
        await engine.dismiss()


async def requests_running(socket: Path) -> int:
    """What the server at `socket` says in its metrics."""
    connector = aiohttp.UnixConnector(str(socket))
    async with (
        aiohttp.ClientSession("http://engine", connector=connector) as session,
        session.get("/metrics") as reply,
    ):
        lines = (await reply.text()).splitlines()
    return sum(
        int(float(line.split()[-1])) for line in lines if line.startswith("vllm:num_requests_run")
    )


async def drain(reply: Reply) -> list[str]:
    return [event async for chunk in reply.chunks for event in parse_events(chunk)]


def socket_of(facts: EngineFacts) -> Path:
    return Path(facts.flags[facts.flags.index("--uds") + 1])


def shared_memory_of(pids: Iterable[int]) -> set[tuple[str, int]]:
    """The shared memory files that these processes have mapped."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return {(path, inode) for path, inode in shared_memory() if f" {inode} " in maps}


def host_of(engine: VllmEngine) -> psutil.Process:
    """Its warm host."""
    assert engine._host is not None
    assert engine._host._process is not None
    transport = engine._host._process._transport
    assert transport is not None
    return psutil.Process(transport.get_pid())


def not_its_host(engine: VllmEngine) -> list[psutil.Process]:
    """Our children but for its warm host: all that must be gone when it has stopped."""
    try:
        host = host_of(engine).pid
    except (AssertionError, psutil.NoSuchProcess):
        host = 0
    return [child for child in psutil.Process().children(recursive=True) if child.pid != host]


def has_ended(pid: int) -> bool:
    """Gone, or waiting for an init that does not notice."""
    stat = find_stat(pid)
    return stat is None or stat.state == "Z"
