"""Sleep at level 2 with vLLM itself, on a CPU, made to forget its weights as a GPU does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from drivers.errors import Unresponsive
from drivers.vllm import VllmEngine
from tests.contracts.engine import answer, chat_body
from tests.drivers.test_vllm_real import make_vllm

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

FORGETFUL = Path(__file__).parents[1] / "fakes/engine_side"
BODY = chat_body(temperature=0, logprobs=True, top_logprobs=5, ignore_eos=True)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        yield Path(place)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine(place: Path, engine_python: str) -> AsyncIterator[VllmEngine]:
    engine = make_vllm(
        place,
        engine_python,
        args=("--worker-extension-cls", "forgetful.Forgetful"),
        env={"PYTHONPATH": str(FORGETFUL), "TEST_NO_IMAGE": str(place / "no-image")},
        warm_host=True,
    )
    await engine.start()
    yield engine
    await engine.dismiss()


async def said(engine: VllmEngine) -> Any:
    """Every token of an answer, with the probabilities of those it was chosen from."""
    return (await answer(engine, BODY))["choices"][0]["logprobs"]


async def test_weights_come_back_from_the_image(shared_engine: VllmEngine, place: Path) -> None:
    """After each of two sleeps the same tokens come with the same probabilities."""
    assert not {"sleep", "host"} & shared_engine.lacks.keys()

    before = await said(shared_engine)
    for _ in range(2):
        await shared_engine.sleep()
        await shared_engine.wake()

        assert await said(shared_engine) == before

    assert (place / "cache/images/tiny-0").stat().st_size > 50_000


async def test_weights_come_back_from_their_files(shared_engine: VllmEngine, place: Path) -> None:
    """Without an image vLLM loads them itself, and they are the same."""
    before = await said(shared_engine)
    await shared_engine.sleep()
    (place / "no-image").touch()
    await shared_engine.wake()
    (place / "no-image").unlink()

    assert await said(shared_engine) == before


async def test_a_damaged_image(shared_engine: VllmEngine, place: Path) -> None:
    """The engine must not serve with what it brought: Unresponsive. The next one is well.

    Nor does it compile anew what the first has compiled.
    """
    before = await said(shared_engine)
    compiled = set((place / "cache").rglob("*.so"))

    assert compiled

    await shared_engine.sleep()
    os.truncate(place / "cache/images/tiny-0", 5000)
    with pytest.raises(Unresponsive, match="image is too short"):
        await shared_engine.wake()
    await shared_engine.stop()
    await shared_engine.start()

    assert await said(shared_engine) == before

    await shared_engine.sleep()
    await shared_engine.wake()

    assert await said(shared_engine) == before
    assert set((place / "cache").rglob("*.so")) == compiled
