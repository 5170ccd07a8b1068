"""The driver's way down and what it says of each end, over a process that plays vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import DriverError, NotPresent, NotSupported, OutOfMemory
from drivers.vllm import VllmEngine
from tests.drivers.conftest import children
from tests.drivers.parts import make_engine, started
from tests.drivers.test_vllm_failures import SAID


async def starts_until_it_serves(engine: VllmEngine) -> list[str]:
    """What the starts that failed said."""
    said = []
    for _ in range(10):
        try:
            await engine.start()
        except OutOfMemory as error:
            said.append(str(error))
        else:
            return said
    raise AssertionError(said)


async def test_it_serves_smaller(place: Path) -> None:
    """Each start that does not fit is followed by a smaller one; facts and flags say so."""
    engine = make_engine(place, "--fits", "16")
    try:
        said = await starts_until_it_serves(engine)
        facts = await engine.start()
    finally:
        await engine.stop()

    assert ["the next start has" in line for line in said] == [True, True]
    assert facts.smaller == ("gpu_memory_utilization 0.77", "max_running 16")
    assert facts.flags[facts.flags.index("--max-num-seqs") + 1] == "16"
    assert not children()


async def test_the_next_daemon_s_engine_begins_there(place: Path) -> None:
    """With the same flags; with others it begins anew."""
    engine = make_engine(place, "--fits", "16")
    try:
        await starts_until_it_serves(engine)
    finally:
        await engine.stop()

    async with started(make_engine(place, "--fits", "16")) as again:
        assert (await again.start()).smaller == ("gpu_memory_utilization 0.77", "max_running 16")

    async with started(make_engine(place, "--fits", "256")) as other:
        assert (await other.start()).smaller == ()


async def test_at_the_end_of_the_ladder(place: Path) -> None:
    """Nothing fits: that is said, with all that was tried and what to do, from then on."""
    engine = make_engine(place, "--fits", "0")
    said: list[DriverError] = []
    while not said or isinstance(said[-1], OutOfMemory):
        with pytest.raises(DriverError) as caught:
            await engine.start()
        said.append(caught.value)

    assert len(said) == 6
    with pytest.raises(NotSupported, match=r"max_running 4.*choose a smaller or quantized model"):
        await engine.start()
    assert not children()


@pytest.mark.parametrize(
    ("name", "kind", "advice"),
    [
        ("no GPU", NotPresent, "see to the driver"),
        ("no weights", NotPresent, r"see to engine\.model"),
        ("quantization", NotSupported, r"engine\.quantization"),
    ],
)
async def test_what_no_smaller_engine_would_help(
    place: Path, name: str, kind: type[DriverError], advice: str
) -> None:
    """The first start says what is to be repaired, and nothing is left of it."""
    engine = make_engine(place, "--last-words", SAID[name][1])
    with pytest.raises(kind, match=advice):
        await engine.start()

    assert not children()
    assert not (place / "run/engine").exists()
