"""VllmEngine over vLLM itself, on a GPU: the contract, with sleep and parking; plain and eager, and
as it is by default, forked from a warm host and with graphs.

    WATTNAP_TEST_GPU_ENGINE=VENV/bin/python pytest -m gpu tests/drivers/test_vllm_gpu.py

The tiny model serves: what is tried is the way down and up, not the speed. The first
start compiles for minutes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from drivers.power_client import find_checkpointer
from drivers.protocols import Engine
from drivers.tenants import NvmlTenants
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings
from tests.contracts.engine import answer, chat_body, stream_body
from tests.drivers.parts import STEADY, host_of
from tests.drivers.vllm_contract import VllmContract
from tests.tiny_model import write_model

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


CACHE_BYTES = 256 << 20
STACKS_BYTES = 32 << 20
"""At least, of any GPU that vLLM runs on: 20 multiprocessors of 2 048 threads, 1 KiB each."""

FAKES = Path(__file__).parents[1] / "fakes/engine_side"


@contextlib.asynccontextmanager
async def vllm(
    *args: str, by_default: bool = False, env: Mapping[str, str] | None = None
) -> AsyncIterator[VllmEngine]:
    """One with the tiny model, which is ended. `by_default`: warm host and graphs."""
    python = os.environ.get("WATTNAP_TEST_GPU_ENGINE")
    if python is None:
        pytest.skip("WATTNAP_TEST_GPU_ENGINE names no engine for a GPU")
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        model = Path(place) / "model"
        write_model(model)
        engine = VllmEngine(
            python=Path(python),
            model=str(model),
            served_name="tiny",
            runtime_dir=Path(place) / "run",
            cache_dir=Path(os.environ.get("WATTNAP_TEST_GPU_CACHE", f"{place}/cache")),
            device="cuda",
            args=("--dtype", "bfloat16", *args),
            env=STEADY | dict(env or {}),
            settings=Settings(
                max_model_len=2000,
                kv_cache_bytes=CACHE_BYTES,
                max_num_seqs=4,
                enforce_eager=not by_default,
            ),
            sleep_level=2,
            warm_host=by_default,
            checkpointer=find_checkpointer(),
        )
        yield engine
        await engine.dismiss()


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine(request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    async with vllm(by_default=request.cls.by_default) as engine:
        yield engine


@pytest.mark.asyncio(loop_scope="class")
class TestVllmOnAGpu(VllmContract):
    """The same promises as on a CPU, and the GPU is empty when they say so."""

    by_default = False

    begins_with = 2
    begins_after_s = 2.0

    long_body = stream_body(max_tokens=1900, ignore_eos=True)

    async def test_parked_it_holds_nothing(self, engine: Engine) -> None:
        """No process of it is on the GPU, and the memory is as before the start; it comes back."""
        body = chat_body(temperature=0)
        await engine.stop()
        empty = NvmlTenants().look()
        facts = await engine.start()
        said = await answer(engine, body)
        await engine.sleep()
        await engine.park()
        parked = NvmlTenants().look()

        assert not parked.bytes_by_pid.keys() & set(facts.pids)
        assert parked.used_bytes <= empty.used_bytes + (64 << 20)

        await engine.wake()

        assert (await answer(engine, body))["choices"] == said["choices"]


@pytest.mark.asyncio(loop_scope="class")
class TestVllmByDefaultOnAGpu(TestVllmOnAGpu):
    """As it is by default."""

    by_default = True

    async def test_it_was_forked(self, engine: VllmEngine) -> None:
        """From a host that has not opened the GPU."""
        await engine.start()

        assert "host" not in engine.lacks
        assert host_of(engine).pid not in NvmlTenants().look().bytes_by_pid


@pytest.mark.asyncio
async def test_asleep_its_context_is_light() -> None:
    """More comes free than its allocator had: the stacks of the GPU's threads. They come back."""
    async with vllm() as engine:
        await engine.start()
        tenants = NvmlTenants()
        said = await answer(engine, chat_body(temperature=0))
        asleep = []
        for _ in range(2):
            awake_bytes = tenants.look().used_bytes
            await engine.sleep()
            asleep.append(tenants.look().used_bytes)
            await engine.wake()

            assert awake_bytes - asleep[-1] > CACHE_BYTES + STACKS_BYTES

        assert abs(asleep[1] - asleep[0]) < STACKS_BYTES / 4
        again = await answer(engine, chat_body(temperature=0))
        assert again["choices"] == said["choices"]


@pytest.mark.asyncio
async def test_somebody_takes_what_a_sleep_frees() -> None:
    """The device shows nothing of it: the engine says that it has let go, and comes back."""
    extension = ("--worker-extension-cls", "crowded.Crowded")
    async with vllm(*extension, env={"PYTHONPATH": str(FAKES)}) as engine:
        await engine.start()
        body = chat_body(temperature=0)
        said = await answer(engine, body)
        await engine.sleep()
        await engine.wake()

        assert (await answer(engine, body))["choices"] == said["choices"]
