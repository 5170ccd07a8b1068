"""VllmEngine over vLLM itself, on a CPU. A start takes 20 s, so engines are shared."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from drivers.errors import Died
from drivers.procfs import shared_memory
from drivers.protocols import Engine
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings
from tests.contracts.engine import answer, stream_body
from tests.drivers.conftest import children
from tests.drivers.parts import STEADY, shared_memory_of, started
from tests.drivers.vllm_contract import VllmContract
from tests.tiny_model import write_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def warm_place() -> Iterator[Path]:
    """One place for the module, so that vLLM's caches are warm after the first start."""
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        yield Path(place)


SETTINGS = Settings(max_model_len=2000, kv_cache_bytes=16 << 20, max_num_seqs=4, enforce_eager=True)


def make_vllm(
    place: Path,
    python: str,
    *,
    head_dim: int = 32,
    args: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    warm_host: bool = False,
) -> VllmEngine:
    model = place / f"model-{head_dim}"
    write_model(model, head_dim=head_dim)
    return VllmEngine(
        python=Path(python),
        model=str(model),
        served_name="tiny",
        runtime_dir=place / "run",
        cache_dir=place / "cache",
        device="cpu",
        args=("--dtype", "bfloat16", *args),
        env=STEADY | dict(env or {}),
        settings=settings or SETTINGS,
        sleep_level=2,
        warm_host=warm_host,
    )


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine(warm_place: Path, engine_python: str) -> AsyncIterator[VllmEngine]:
    """Begins with what a vLLM without a guard leaves behind: vLLM fails on such a socket."""
    home = warm_place / "run/engine"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "vllm.sock"))
    engine = make_vllm(warm_place, engine_python)
    yield engine
    await engine.stop()


@pytest.mark.asyncio(loop_scope="class")
class TestVllm(VllmContract):
    """vLLM keeps the promises, and so does its stand-in: the same tests."""

    begins_with = 2
    begins_after_s = 2.0

    long_body = stream_body(max_tokens=1900, ignore_eos=True)

    async def kill(self, engine: Engine) -> None:
        """Kill the API server: left alone, EngineCore would live on (vLLM issue 55510)."""
        facts = await engine.start()

        assert len(facts.pids) >= 3

        psutil.Process(facts.pids[0]).kill()

    async def test_its_core_killed_and_nothing_left(
        self, shared_engine: VllmEngine, warm_place: Path
    ) -> None:
        """vLLM takes seconds to notice that its EngineCore was killed; we do not."""
        facts = await shared_engine.start()
        made = shared_memory_of(facts.pids)

        assert made

        core = next(pid for pid in facts.pids[1:] if "EngineCore" in title(pid))
        psutil.Process(core).kill()
        async with asyncio.timeout(2):
            with pytest.raises(Died, match="its VLLM::EngineCore has ended"):
                await shared_engine.died()

        assert children() == []
        assert not made & shared_memory()
        assert list((warm_place / "run").iterdir()) == []


def title(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


async def test_head_dim_16_dies_of_its_first_request(warm_place: Path, engine_python: str) -> None:
    """A model that starts, says that it is well, and kills the engine: reported as Died."""
    async with started(make_vllm(warm_place, engine_python, head_dim=16)) as engine:
        with pytest.raises((Died, AssertionError)):  # its API server may still say 500
            await answer(engine)
        async with asyncio.timeout(15):
            with pytest.raises(Died) as death:
                await engine.died()

        assert "its VLLM::EngineCore has ended" in str(death.value)

    assert children() == []


OWNER = """
import asyncio, json, sys
from pathlib import Path
from tests.drivers.test_vllm_real import make_vllm

async def own():
    engine = make_vllm(Path(sys.argv[1]), sys.argv[2])
    facts = await engine.start()
    print(json.dumps(facts.pids), flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


def test_its_owner_killed(warm_place: Path, engine_python: str) -> None:
    """SIGKILL of the process that owns the engine leaves no process and no file."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, warm_place, engine_python], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        family = [psutil.Process(pid) for pid in json.loads(owner.stdout.readline())]
        made = shared_memory_of(process.pid for process in family)
        guard = family[0].parent()
        assert guard is not None
        owner.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs([*family, guard], timeout=10)

    assert (len(gone), alive) == (len(family) + 1, [])
    assert not made & shared_memory()
    assert list((warm_place / "run").iterdir()) == []
