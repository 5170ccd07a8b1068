"""VllmEngine over a real process that speaks vLLM's HTTP and can be told to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from drivers.errors import Died, NotPermitted, NotPresent, NotSupported, Refused, Unresponsive
from drivers.procfs import shared_memory
from drivers.vllm import VllmEngine
from tests.contracts.engine import (
    CHAT,
    answer,
    chat_body,
    stream,
    stream_body,
)
from tests.drivers.conftest import children
from tests.drivers.parts import (
    drain,
    make_engine,
    shared_memory_of,
    started,
)
from tests.drivers.vllm_contract import VllmContract


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine() -> AsyncIterator[VllmEngine]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = make_engine(Path(place), "--start-s", "0.1")
        yield engine
        await engine.stop()


@pytest.mark.asyncio(loop_scope="class")
class TestVllmOverStandIn(VllmContract):
    """The driver keeps the engine's promises over a process that speaks vLLM's HTTP."""

    begins_with = 2


async def test_stop_leaves_nothing(place: Path) -> None:
    """After stop(): no process, no socket, no IPC file, no shared memory."""
    async with started(make_engine(place, "--shared-memory", "--grandchild")) as engine:
        made = shared_memory_of((await engine.start()).pids)

        assert made
        assert list(place.glob("run/engine/ipc/*"))

    assert not children()
    assert not made & shared_memory()
    assert list((place / "run").iterdir()) == []


async def test_its_core_is_watched(place: Path) -> None:
    """Its end is the engine's, also where the server does not notice."""
    async with started(make_engine(place, "--core")) as engine:
        facts = await engine.start()
        core = next(child for child in children() if child.cmdline()[0] == "VLLM::EngineCore")

        assert core.pid in facts.pids

        core.kill()
        async with asyncio.timeout(2):
            with pytest.raises(Died, match="its VLLM::EngineCore has ended"):
                await engine.died()

        assert not children()


async def test_stop_lets_requests_end(place: Path) -> None:
    """stop() lets a running request finish, and returns when it has."""
    engine = make_engine(place, "--tokens-per-s", "10", stop_timeout_s=5)
    async with (
        started(engine),
        engine.request(CHAT, stream_body("a b c"), stream=True) as reply,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(engine.stop())
        events = await drain(reply)

    assert events[-1] == "[DONE]"
    assert not children()


async def test_stop_in_spite_of_sigterm_ignored(place: Path) -> None:
    """A server that ignores SIGTERM is killed when its time is over."""
    async with started(make_engine(place, "--ignore-sigterm")) as engine:
        async with asyncio.timeout(6):
            await engine.stop()

    assert not children()


async def test_dies_while_loading(place: Path) -> None:
    """A server that exits before it is ready raises Died with the cause, and is gone."""
    engine = make_engine(place, "--die-at-90")
    with pytest.raises(Died, match="exited with 1: ValueError: too little memory"):
        await engine.start()

    assert not children()
    assert not (place / "run/engine").exists()

    await engine.stop()


async def test_never_ready(place: Path) -> None:
    """A server that is not ready in time raises Unresponsive, and has been stopped."""
    engine = make_engine(place, "--start-s", "60", start_timeout_s=0.5)
    with pytest.raises(Unresponsive, match="not ready within"):
        await engine.start()

    assert not children()


async def test_ready_without_saying_so(place: Path) -> None:
    """Readiness is what /health says, at worst a second late."""
    async with started(make_engine(place, "--silent")) as engine:
        assert await answer(engine)


async def test_a_flood_of_output_does_not_stop_it(place: Path) -> None:
    """Megabytes of log before it is ready are drained."""
    async with started(make_engine(place, "--flood", "3000000")) as engine:
        assert await answer(engine)


async def test_exit_0_in_mid_reply_is_death(place: Path) -> None:
    """An exit nobody asked for is a death, whatever its status, for reader and watcher."""
    async with started(make_engine(place)) as engine:
        with pytest.raises(Died) as caught:
            await stream(engine, stream_body("poison"))

        assert caught.value.status == 0

        with pytest.raises(Died):
            await engine.died()


@pytest.mark.parametrize("prompt", ["reset", "cut"])
async def test_a_broken_connection_is_no_death(
    place: Path, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that breaks off while the process lives is Unresponsive; the next is served."""
    monkeypatch.setattr("drivers.vllm.NOTICE_S", 0.1)
    async with started(make_engine(place)) as engine:
        with pytest.raises(Unresponsive):
            await stream(engine, stream_body(prompt))

        assert await answer(engine)


async def test_hang_is_a_stall(place: Path) -> None:
    """An engine that is healthy and never answers is Unresponsive, and says since when."""
    async with started(make_engine(place, stall_timeout_s=0.2)) as engine:
        with pytest.raises(Unresponsive, match="no byte for"):
            await answer(engine, chat_body("hang"))
        with pytest.raises(Unresponsive, match="no byte for"):
            await stream(engine, stream_body("hang"))


async def test_waiting_behind_others_is_no_stall(place: Path) -> None:
    """While the engine sends anybody anything, nobody is told that it stalled."""
    engine = make_engine(place, stall_timeout_s=0.3)
    async with started(engine), asyncio.TaskGroup() as group:
        waits = group.create_task(answer(engine, chat_body("hang")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.8):
                await stream(engine, stream_body("endless"))

        assert not waits.done()

        waits.cancel()


async def test_a_slow_reader_is_no_stall(place: Path) -> None:
    """Time that our own reader takes is not the engine's."""
    engine = make_engine(place, stall_timeout_s=0.2)
    async with started(engine), engine.request(CHAT, stream_body(), stream=True) as reply:
        await asyncio.sleep(0.5)
        events = await drain(reply)

    assert events[-1] == "[DONE]"


async def test_frozen_is_a_stall_in_mid_stream(place: Path) -> None:
    """A stream that stops coming is Unresponsive too, and stop() still ends it all."""
    engine = make_engine(place, stall_timeout_s=0.3)
    async with started(engine):
        leader = psutil.Process((await engine.start()).pids[0])
        async with engine.request(CHAT, stream_body("endless"), stream=True) as reply:
            async for _ in reply.chunks:
                break
            leader.suspend()
            with pytest.raises(Unresponsive, match="no byte for"):
                await drain(reply)

    assert not children()


async def test_an_error_in_a_stream_is_passed_on(place: Path) -> None:
    """What vLLM says inside a stream reaches the reader as it is."""
    async with started(make_engine(place)) as engine:
        events = await stream(engine, stream_body("error"))

    assert json.loads(events[1])["error"]["code"] == 500
    assert events[-1] == "[DONE]"


async def test_stale_files_are_cleared(place: Path) -> None:
    """What an engine without a guard has left, a socket above all, is no obstacle."""
    home = place / "run/engine"
    home.mkdir(parents=True, mode=0o700)
    (place / "run").chmod(0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "vllm.sock"))
    async with started(make_engine(place)) as engine:
        assert await answer(engine)


async def test_two_engines_in_one_folder(place: Path) -> None:
    """The folder of a living engine is refused, and that engine is not touched."""
    async with started(make_engine(place)) as engine:
        with pytest.raises(Refused, match="in use by process"):
            await make_engine(place).start()

        assert await answer(engine)


async def test_a_second_life(place: Path) -> None:
    """After a death start() gives a new life, and died() watches that one."""
    async with started(make_engine(place)) as engine:
        first = await engine.start()
        psutil.Process(first.pids[0]).kill()
        with pytest.raises(Died):
            await engine.died()
        second = await engine.start()
        watch = asyncio.ensure_future(engine.died())
        await asyncio.wait({watch}, timeout=0.05)

        assert second.pids != first.pids
        assert not watch.done()

        psutil.Process(second.pids[0]).kill()
        with pytest.raises(Died):
            await watch


async def test_no_python(place: Path) -> None:
    """A Python that is not there is NotPresent."""
    with pytest.raises(NotPresent, match="nonexistent"):
        await real(place, python=Path("/nonexistent")).start()


async def test_no_vllm(place: Path) -> None:
    """A Python without vLLM is NotPresent, and says which."""
    with pytest.raises(NotPresent, match="no vLLM"):
        await real(place, python=Path(sys.executable)).start()


async def test_no_model(place: Path) -> None:
    """A model folder that is not there is NotPresent."""
    with pytest.raises(NotPresent, match="no model"):
        await real(place, model="/nonexistent").start()


async def test_path_too_long_for_sockets(place: Path) -> None:
    """A runtime folder that leaves no room for sockets is refused before anything runs."""
    with pytest.raises(NotSupported, match="too long"):
        await make_engine(place / ("x" * 80)).start()


async def test_open_folder_is_refused(place: Path) -> None:
    """A runtime folder that others may enter is refused: the socket has no other lock."""
    (place / "run").mkdir()
    (place / "run").chmod(0o755)
    with pytest.raises(NotPermitted, match="700"):
        await make_engine(place).start()


def real(place: Path, *, python: Path = Path(sys.executable), model: str = "any") -> VllmEngine:
    return VllmEngine(
        python=python,
        model=model,
        served_name="any",
        runtime_dir=place / "run",
        cache_dir=place / "cache",
    )
