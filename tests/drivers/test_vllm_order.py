"""What an engine is known by before it starts: the recipe that a bake goes by."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import NotPermitted, NotPresent
from drivers.vllm import VllmEngine
from drivers.vllm_command import BOOST_SWITCH
from drivers.vllm_settings import Settings
from tests.drivers.parts import SERVER
from tests.drivers.test_vllm_ladder import starts_until_it_serves
from tests.fakes.plain_user import as_plain_user


def engine(place: Path, **other: Any) -> VllmEngine:
    """One that plays vLLM 0.32.0, unless it is told otherwise; never started."""
    asked: dict[str, Any] = {
        "python": Path(sys.executable),
        "model": str(place / "model"),
        "served_name": "main",
        "runtime_dir": place / "run",
        "cache_dir": place / "cache",
        "device": "cpu",
        "settings": Settings(max_num_seqs=8),
        "sleep_level": 2,
        "launch": ((sys.executable, str(SERVER)), "0.32.0"),
    }
    (place / "model").mkdir(exist_ok=True)
    (place / "model" / "config.json").touch()
    return VllmEngine(**asked | other)


async def test_the_same_wishes_have_one_recipe(place: Path) -> None:
    """For any daemon, wherever its sockets lie."""
    first = await engine(place).recipe()

    assert first
    assert await engine(place, runtime_dir=place / "elsewhere").recipe() == first


@pytest.mark.parametrize(
    "other",
    [
        {"args": ("--dtype", "float16")},
        {"env": {"VLLM_X": "1"}},
        {"settings": Settings(max_num_seqs=9)},
        {"settings": Settings(max_num_seqs=8, startup_plan=True)},
        {"sleep_level": 1},
        {"launch": ((sys.executable, str(SERVER)), "0.33.0")},
        {"model": "org/name"},
        {"cache_dir": Path("cache elsewhere")},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_wish_has_another(
    place: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)

    assert await engine(place, **other).recipe() != await engine(place).recipe()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"args": ("--api-key", "secret")}, {"flags"}),
        ({"env": {"HF_TOKEN": "secret"}}, {"variables"}),
        ({"settings": Settings(max_num_seqs=9)}, {"flags"}),
        ({"settings": Settings(max_num_seqs=8, startup_plan=True)}, {"variables"}),
        ({"sleep_level": 1}, {"sleep level"}),
        ({"launch": ((sys.executable, str(SERVER)), "0.33.0")}, {"vLLM"}),
        ({"cache_dir": Path("cache elsewhere")}, set()),
    ],
    ids=lambda value: next(iter(value), "nothing"),
)
async def test_what_has_changed_can_be_named(
    place: Path, other: dict[str, Any], named: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, and without telling anybody a secret. Caches change nothing."""
    monkeypatch.chdir(place)
    before, after = await engine(place).ingredients(), await engine(place, **other).ingredients()

    assert {name for name in after if after[name] != before[name]} == named
    assert "secret" not in str(after)


async def test_another_model_in_its_place(place: Path) -> None:
    """A file that was exchanged is noticed."""
    before, model = await engine(place).recipe(), (await engine(place).ingredients())["model"]
    (place / "model" / "config.json").write_text("{}")

    assert await engine(place).recipe() != before
    assert (await engine(place).ingredients())["model"] != model


async def test_caches_that_were_removed(place: Path) -> None:
    """What a start had prepared is gone, so it is to be prepared again."""
    before = await engine(place).recipe()
    shutil.rmtree(place / "cache")

    assert await engine(place).recipe() != before


async def test_caches_that_cannot_be_written(place: Path) -> None:
    """It has a recipe all the same; the start will say what is wrong."""
    (place / "file").touch()

    assert await engine(place, cache_dir=place / "file" / "cache").recipe()


async def test_as_shipped(place: Path) -> None:
    """From its next start on without the boost switch; but what the operator has set stays."""
    made = engine(place, device="cuda")
    variables = []
    for as_shipped in (False, True, False):
        made.as_shipped = as_shipped
        facts = await made.start()
        variables.append(Path(f"/proc/{facts.pids[0]}/environ").read_bytes())
        await made.stop()

    assert [b"CUDA_DISABLE_PERF_BOOST=0" in each for each in variables] == [False, True, False]
    assert [b"CUDA_DISABLE_PERF_BOOST=1" in each for each in variables] == [True, False, True]
    assert engine(place).as_shipped is None
    assert engine(place, device="cuda", env={BOOST_SWITCH: "0"}).as_shipped is None


async def test_no_model(place: Path) -> None:
    """What is known beforehand is said beforehand."""
    with pytest.raises(NotPresent, match="no model at"):
        await engine(place, model=str(place / "nothing")).recipe()


async def test_a_model_that_nobody_lets_us_reach(place: Path) -> None:
    """What is behind a closed folder may be there: its owner has to open it."""
    made = engine(place, model=str(place / "closed" / "model"))
    (place / "closed" / "model").mkdir(parents=True)
    (place / "closed").chmod(0)
    with as_plain_user(), pytest.raises(NotPermitted, match="enter each folder"):
        await made.recipe()


async def test_a_model_with_a_file_of_somebody_elses(place: Path) -> None:
    """A start does not read what only we would read."""
    made = engine(place)
    (place / "model" / "README.md").touch(0)
    with as_plain_user():
        assert await made.recipe()
        await made.start()
        await made.stop()


async def test_becoming_smaller_is_no_other_wish(place: Path) -> None:
    """What did not fit changes the next start, and is not to be prepared anew for that."""
    small = engine(place, args=("--fits", "4"))
    before = await small.recipe()
    await starts_until_it_serves(small)
    facts = await small.start()
    inside = await small.recipe()
    await small.stop()

    assert facts.smaller
    assert inside == before
    assert await engine(place, args=("--fits", "4")).recipe() == before
