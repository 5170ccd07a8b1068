from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from drivers.probe import Gpu, Machine
from drivers.vllm_identity import SMALL_BYTES, identity
from drivers.vllm_versions import Install


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
