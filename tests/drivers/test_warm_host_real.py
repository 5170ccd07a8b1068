"""vLLM itself from a warm host, on a CPU, made to forget its weights in sleep as a GPU does.

8 s for the host, then about 1 s for each start: all share one, but for the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from drivers.errors import Died, Unresponsive
from drivers.procfs import shared_memory
from drivers.vllm import VllmEngine
from tests.contracts.engine import CHAT, answer, chat_body, stream_body
from tests.drivers.parts import (
    has_ended,
    host_of,
    shared_memory_of,
)
from tests.drivers.test_vllm_real import make_vllm, title
from tests.drivers.vllm_contract import VllmContract

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

FORGETFUL = Path(__file__).parents[1] / "fakes/engine_side"
BODY = chat_body(temperature=0, logprobs=True, top_logprobs=5, ignore_eos=True)


@pytest.fixture(scope="module")
def warm_place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        yield Path(place)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine(warm_place: Path, engine_python: str) -> AsyncIterator[VllmEngine]:
    engine = make_vllm(
        warm_place,
        engine_python,
        args=("--worker-extension-cls", "forgetful.Forgetful"),
        env={"PYTHONPATH": str(FORGETFUL), "TEST_NO_IMAGE": str(warm_place / "no-image")},
        warm_host=True,
    )
    await engine.start()
    yield engine
    await engine.dismiss()


async def said(engine: VllmEngine) -> Any:
    """Every token of an answer, with the probabilities of those it was chosen from."""
    return (await answer(engine, BODY))["choices"][0]["logprobs"]


async def test_weights_come_back_from_the_image(
    shared_engine: VllmEngine, warm_place: Path
) -> None:
    """After each of two sleeps the same tokens come with the same probabilities."""
    assert not {"sleep", "host"} & shared_engine.lacks.keys()

    before = await said(shared_engine)
    for _ in range(2):
        await shared_engine.sleep()
        await shared_engine.wake()

        assert await said(shared_engine) == before

    assert (warm_place / "cache/images/tiny-0").stat().st_size > 50_000


async def test_weights_come_back_from_their_files(
    shared_engine: VllmEngine, warm_place: Path
) -> None:
    """Without an image vLLM loads them itself, and they are the same."""
    before = await said(shared_engine)
    await shared_engine.sleep()
    (warm_place / "no-image").touch()
    await shared_engine.wake()
    (warm_place / "no-image").unlink()

    assert await said(shared_engine) == before


async def test_a_damaged_image(shared_engine: VllmEngine, warm_place: Path) -> None:
    """The engine must not serve with what it brought: Unresponsive. The next one is well.

    Nor does it compile anew what the first has compiled.
    """
    before = await said(shared_engine)
    compiled = set((warm_place / "cache").rglob("*.so"))

    assert compiled

    await shared_engine.sleep()
    os.truncate(warm_place / "cache/images/tiny-0", 5000)
    with pytest.raises(Unresponsive, match="image is too short"):
        await shared_engine.wake()
    await shared_engine.stop()
    await shared_engine.start()

    assert await said(shared_engine) == before

    await shared_engine.sleep()
    await shared_engine.wake()

    assert await said(shared_engine) == before
    assert set((warm_place / "cache").rglob("*.so")) == compiled


def code(pid: int) -> str:
    """Where a process has its C library: at random for each program that is started."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next(line for line in maps if "/libc.so" in line).split("-")[0]


class TestVllmFromAWarmHost(VllmContract):
    """vLLM that was forked keeps all promises, of which ending without a trace is the hardest."""

    begins_with = 2

    long_body = stream_body(max_tokens=1900, ignore_eos=True)

    async def test_all_of_it_is_forked(self, shared_engine: VllmEngine) -> None:
        """The API server, its core and the worker: none is a program that imports anew."""
        facts = await shared_engine.start()
        host = host_of(shared_engine)
        titles = {pid: title(pid) for pid in facts.pids[1:]}

        assert "host" not in shared_engine.lacks
        assert any("EngineCore" in each for each in titles.values())
        assert any("Worker" in each for each in titles.values())

        started = {pid for pid in facts.pids if code(pid) != code(host.pid)}

        assert all("resource_tracker" in titles[pid] for pid in started)  # Python's own

    async def test_a_start_takes_a_moment(self, shared_engine: VllmEngine) -> None:
        """Plainly it takes 20 s on such a machine; bench/warm_host.py says how long exactly."""
        took_s = []
        for _ in range(2):
            await shared_engine.stop()
            began_s = time.perf_counter()
            await shared_engine.start()
            took_s.append(time.perf_counter() - began_s)

        assert min(took_s) < 5

    @pytest.mark.parametrize("killed", ["core", "guard"])
    async def test_killed_and_nothing_left(self, shared_engine: VllmEngine, killed: str) -> None:
        """Whichever is killed, all but the host end, and the next start is from the same host."""
        facts, host = await shared_engine.start(), host_of(shared_engine)
        guard = psutil.Process(facts.pids[0]).parent()
        assert guard is not None
        made = shared_memory_of(facts.pids)

        assert made

        core = next(pid for pid in facts.pids[1:] if "EngineCore" in title(pid))
        (guard if killed == "guard" else psutil.Process(core)).kill()
        async with asyncio.timeout(15):
            with pytest.raises(Died):
                await shared_engine.died()

        assert all(map(has_ended, (guard.pid, *facts.pids)))
        assert not made & shared_memory()
        assert await shared_engine.start()
        assert host_of(shared_engine) == host

    async def test_it_outlives_its_host(self, shared_engine: VllmEngine) -> None:
        """Its answer goes on when the host is killed; ended, it leaves nothing all the same."""
        facts, host = await shared_engine.start(), host_of(shared_engine)
        guard = psutil.Process(facts.pids[0]).ppid()
        async with shared_engine.request(CHAT, self.long_body, stream=True) as reply:
            chunks = aiter(reply.chunks)
            await anext(chunks)
            host.kill()
            for _ in range(20):
                assert await anext(chunks)

        assert await answer(shared_engine)

        made = shared_memory_of(facts.pids)
        await shared_engine.stop()

        assert all(map(has_ended, (guard, *facts.pids)))
        assert not made & shared_memory()


OWNER = """
import asyncio, json, sys
from pathlib import Path
from tests.drivers.parts import host_of
from tests.drivers.test_vllm_real import make_vllm

async def own():
    engine = make_vllm(Path(sys.argv[1]), sys.argv[2], warm_host=True)
    facts = await engine.start()
    print(json.dumps([host_of(engine).pid, *facts.pids]), flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


async def test_its_owner_killed(warm_place: Path, engine_python: str) -> None:
    """SIGKILL of the process that owns them ends host, guard, and all of the engine."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, warm_place, engine_python], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        host, *family = map(psutil.Process, json.loads(owner.stdout.readline()))
        made = shared_memory_of(process.pid for process in family)
        guard = family[0].parent()
        assert guard is not None
        owner.kill()
    _, alive = psutil.wait_procs([host, guard, *family], timeout=10)

    assert alive == []
    assert not made & shared_memory()
    assert list((warm_place / "run").iterdir()) == []
