"""Settings and their ladder over vLLM itself, on a CPU, all of it from one warm host."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from drivers.errors import DriverError, NotPresent, NotSupported, OutOfMemory
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings
from tests.drivers.parts import not_its_host
from tests.drivers.test_vllm_real import SETTINGS, make_vllm

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

Engines = Callable[..., VllmEngine]

SPEEDY = replace(
    SETTINGS,
    speculative_ngram_tokens=4,
    priority_scheduling=True,
    prefix_caching=True,
    startup_plan=True,
)
PROMPT = "the cat sat on the mat, the cat sat on the mat, the cat sat on"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine(engine_python: str) -> AsyncIterator[Engines]:
    """Makes engines, with other settings each, that share a warm host."""
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        made: list[VllmEngine] = []

        def make(settings: Settings = SETTINGS, args: tuple[str, ...] = ()) -> VllmEngine:
            engine = make_vllm(
                Path(place), engine_python, args=args, settings=settings, warm_host=True
            )
            engine._host = made[0]._host if made else engine._host
            made.append(engine)
            return engine

        yield make
        await made[-1].dismiss()


@contextlib.asynccontextmanager
async def stopped_after(engine: VllmEngine) -> AsyncIterator[VllmEngine]:
    try:
        yield engine
    finally:
        await engine.stop()
        assert not_its_host(engine) == []


async def tokens(engine: VllmEngine, *, priority: int = 0) -> list[int]:
    """64 greedy tokens."""
    asked = {
        "model": "tiny",
        "prompt": PROMPT,
        "max_tokens": 64,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "priority": priority,
    }
    body = json.dumps(asked).encode()
    async with engine.request("/v1/completions", body, stream=False) as reply:
        said = json.loads(b"".join([chunk async for chunk in reply.chunks]))
    assert reply.status == 200, said
    ids: list[int] = said["choices"][0]["token_ids"]
    return ids


async def test_speed_changes_no_token(shared_engine: Engines) -> None:
    """Guessing ahead, shared beginnings and priorities are taken, and say what goes without."""
    async with stopped_after(shared_engine()) as slow:
        await slow.start()
        wanted = await tokens(slow)
    async with stopped_after(shared_engine(SPEEDY)) as engine:
        facts = await engine.start()
        said = [await tokens(engine, priority=priority) for priority in (0, 5, -5)]

        assert engine._child is not None
        taken = next(line for line in engine._child.tail if "non-default args" in line)

    assert "host" not in engine.lacks
    assert "--enable-prefix-caching" in facts.flags  # which is vLLM's default too
    assert "'kv_cache_memory_bytes': 16777216" in taken
    assert "'scheduling_policy': 'priority'" in taken
    assert "'num_speculative_tokens': 4" in taken
    assert len(wanted) == 64
    assert said == [wanted] * 3


async def test_a_context_that_does_not_fit_is_shortened(shared_engine: Engines) -> None:
    """The model's 4096 tokens need more cache than there is: what fits is served instead."""
    asked = Settings(kv_cache_bytes=1 << 16, max_num_seqs=2, enforce_eager=True)
    async with stopped_after(shared_engine(asked)) as engine:
        with pytest.raises(OutOfMemory, match="the next start has max_model_len 336"):
            await engine.start()
        facts = await engine.start()
        said = await tokens(engine)

    assert facts.smaller == ("max_model_len 336",)
    assert len(said) == 64


@pytest.mark.parametrize(
    ("args", "settings", "kind", "words"),
    [
        (("--no-such-flag",), SETTINGS, NotSupported, r"correct engine\.args.*--no-such-flag"),
        ((), replace(SETTINGS, quantization="gguf"), NotSupported, "Unknown quantization"),
        (("--load-format", "npcache"), SETTINGS, NotPresent, "Cannot find any model weights"),
    ],
)
async def test_what_cannot_be_is_said(
    shared_engine: Engines,
    args: tuple[str, ...],
    settings: Settings,
    kind: type[DriverError],
    words: str,
) -> None:
    """In vLLM's words, with ours for what to do; and nothing is left."""
    async with stopped_after(shared_engine(settings, args)) as engine:
        with pytest.raises(kind, match=words):
            await engine.start()
