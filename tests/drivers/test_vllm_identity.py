from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import Refused
from drivers.probe import Gpu, Machine
from drivers.vllm_identity import SMALL_BYTES, identity
from drivers.vllm_versions import Install
from tests.fakes.plain_user import as_plain_user


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x" * (SMALL_BYTES + 1))
    return folder


def of(folder: Path, **other: Any) -> str:
    facts: dict[str, Any] = {
        "model": str(folder),
        "install": Install("vllm", "0.32.0", "2.13.0"),
        "flags": ["--uds", "/run/a.sock", "--dtype", "bfloat16"],
        "env": {},
        "machine": Machine(driver="580.1", gpus=(Gpu(address="0", uuid="a"),), absent={}),
    }
    return identity(**facts | other)


def test_the_same_is_the_same(model: Path) -> None:
    """Wherever its socket lies, and whenever small files were touched."""
    before = of(model)
    os.utime(model / "config.json", (1, 1))

    assert of(model, flags=["--uds", "/run/b.sock", "--dtype", "bfloat16"]) == before


@pytest.mark.parametrize(
    "other",
    [
        {"install": Install("vllm", "0.33.0", "2.13.0")},
        {"install": Install("vllm", "0.32.0", "2.14.0")},
        {"flags": ["--uds", "/run/a.sock", "--dtype", "float16"]},
        {"env": {"VLLM_X": "1"}},
        {"machine": Machine(driver="590.1", gpus=(Gpu(address="0", uuid="a"),), absent={})},
        {"machine": Machine(driver="580.1", gpus=(Gpu(address="0", uuid="b"),), absent={})},
        {"model": "org/name"},
    ],
)
def test_another_is_another(model: Path, other: dict[str, Any]) -> None:
    assert of(model, **other) != of(model)


def test_other_weights_are_seen_by_their_time(model: Path) -> None:
    """Of the same size and beginning."""
    before = of(model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"y")
    os.utime(weights, (1, 1))

    assert of(model) != before


@pytest.mark.parametrize("name", ["README.md", "notes"])
def test_what_may_not_be_read_is_known_as_that(model: Path, name: str) -> None:
    """A file or folder that vLLM may never ask for is no reason to fail."""
    before = of(model)
    kept = model / name
    kept.mkdir() if name == "notes" else kept.write_text("x")
    kept.chmod(0)
    with as_plain_user():
        closed = of(model)

        assert of(model) == closed

    kept.chmod(0o755)

    assert len({before, closed}) == 2
    assert of(model) != closed


def test_files_of_a_folder_that_may_not_be_entered(model: Path) -> None:
    """Their names are seen, and no more."""
    before = of(model)
    model.chmod(0o444)
    with as_plain_user():
        assert of(model) != before

    model.chmod(0o755)


def test_a_link_to_nothing_is_nothing(model: Path) -> None:
    """As is one to itself: neither is part of the model."""
    before = of(model)
    (model / "gone").symlink_to("nowhere")
    (model / "round").symlink_to("round")

    assert of(model) == before


def test_want_of_descriptors_makes_no_other_engine(model: Path) -> None:
    """It passes, so it is Refused, and no digest is given."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(Refused, match="Too many open files"):
            of(model)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
