"""What "auto" becomes: on a desktop, on a Jetson, and never against the file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import defaults
from appliance.config import Engine
from appliance.defaults import (
    GIB,
    KV_LEAST_BYTES,
    KV_MOST_BYTES,
    MIB,
    shared_kv_bytes,
    useful_kv_bytes,
)
from appliance.model_facts import ModelFacts
from drivers.probe import Machine, probe
from tests.trees import BOARDS, DESKTOP, jetson, write


def settings(engine: Engine, machine: Machine, weights_bytes: int) -> defaults.Settings:
    return defaults.settings(
        engine, machine, ModelFacts(weights_bytes=weights_bytes, safetensors=True)
    )


def test_a_desktop(tmp_path: Path) -> None:
    """The engine measures its memory, and serves many."""
    found = settings(Engine(), probe(write(tmp_path, DESKTOP)), 5 * GIB)

    assert (found.kv_cache_bytes, found.max_running, found.enforce_eager) == (None, 64, False)
    assert (found.load_format, found.without) == ("fastest", {})


def test_what_cannot_be_read_fastest(tmp_path: Path) -> None:
    """Weights of another kind, or of a model that is only named, are vLLM's to read."""
    machine = probe(write(tmp_path / "desk", DESKTOP))

    assert defaults.settings(Engine(), machine, ModelFacts(weights_bytes=GIB)).load_format == ""


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_without_a_gpu(tmp_path: Path, device: Literal["cpu", "auto"]) -> None:
    """A fixed cache, of memory that others use, too, and what starts soonest."""
    tree = DESKTOP if device == "cpu" else {"proc/meminfo": "MemTotal: 16777216 kB\n"}
    machine = probe(write(tmp_path, tree))
    found = settings(Engine(device=device), machine, 2 * GIB)

    assert machine.memory.total_bytes > 0
    assert found.kv_cache_bytes == shared_kv_bytes(machine.memory.total_bytes, 2 * GIB)
    assert (found.max_running, found.enforce_eager, found.without) == (64, True, {})
    assert found.load_format == ""
    assert not settings(Engine(device=device, compile=True), machine, GIB).enforce_eager


@pytest.mark.parametrize(
    ("board", "weights_gib", "kv_mib", "without"),
    [
        ("agx-orin", 5, 4096, {"park"}),
        ("orin-nx", 2, 2304, {"park"}),
        ("orin-nano", 2, 320, {"park", "host"}),
        ("orin-nano", 0, 320, {"park", "host"}),  # a name, whose size nobody knows
        ("orin-nano", 6, 128, {"park", "host"}),
    ],
)
def test_a_jetson(
    tmp_path: Path, board: str, weights_gib: int, kv_mib: int, without: set[str]
) -> None:
    """A fixed cache, few requests, no graphs, and no parking."""
    found = settings(Engine(), probe(jetson(board, tmp_path)), weights_gib * GIB)

    assert found.kv_cache_bytes == kv_mib * MIB
    assert (found.max_running, found.enforce_eager, found.load_format) == (4, True, "")
    assert set(found.without) == without


@pytest.mark.parametrize("board", [None, *BOARDS])
def test_the_file_wins(tmp_path: Path, board: str | None) -> None:
    """Also against what we would advise; 0 still leaves the measuring to the engine."""
    machine = probe(jetson(board, tmp_path) if board else write(tmp_path, DESKTOP))
    asked = Engine(kv_cache_mib=512, max_running=17, enforce_eager=False, load_format="safetensors")
    found = settings(asked, machine, GIB)
    measured = settings(Engine(kv_cache_mib=0), machine, GIB)

    assert (found.kv_cache_bytes, found.max_running) == (512 * MIB, 17)
    assert (found.enforce_eager, found.load_format) == (False, "safetensors")
    assert measured.kv_cache_bytes is None


def test_level_1_gains_nothing_there(tmp_path: Path) -> None:
    """Keeping the weights in RAM frees no memory where that is the GPU's too."""
    asked, board = Engine(sleep_level=1), probe(jetson("agx-orin", tmp_path / "board"))

    assert set(settings(asked, board, GIB).without) == {"park", "sleep"}
    assert settings(asked, probe(write(tmp_path / "desk", DESKTOP)), GIB).without == {}


@given(total=st.integers(1, 256 * GIB), weights=st.integers(0, 256 * GIB))
def test_the_cache_has_bounds(total: int, weights: int) -> None:
    """Whatever a board says of itself."""
    assert KV_LEAST_BYTES <= shared_kv_bytes(total, weights) <= KV_MOST_BYTES


@pytest.mark.parametrize(
    ("token_bytes", "running", "asked_tokens", "mib"),
    [
        (2048, 64, 0, 128),  # the model in the box
        (128 << 10, 4, 4096, 4096),
        (128 << 10, 4, 100, 128),  # the least
        (100_000, 8, 1000, 1536),  # in whole steps
        (0, 64, 512, 4096),  # nobody knows
    ],
)
def test_no_more_cache_than_requests_can_fill(
    token_bytes: int, running: int, asked_tokens: int, mib: int
) -> None:
    """Twice what all at once can: the other half keeps what the next ones may share."""
    model = ModelFacts(token_bytes=token_bytes, longest_tokens=512)

    assert useful_kv_bytes(model, running, asked_tokens) == mib * MIB


def test_a_small_model_takes_little(tmp_path: Path) -> None:
    """Of a machine with much memory and no GPU."""
    machine = probe(write(tmp_path, {"proc/meminfo": "MemTotal: 67108864 kB\n"}))
    model = ModelFacts(weights_bytes=8 * MIB, token_bytes=2048, longest_tokens=512)

    assert settings(Engine(), machine, 8 * MIB).kv_cache_bytes == KV_MOST_BYTES
    assert defaults.settings(Engine(), machine, model).kv_cache_bytes == 128 * MIB


@pytest.mark.parametrize(
    ("board", "said", "kept"),
    [
        ("agx-orin", "auto", True),
        ("agx-orin", "off", False),
        ("orin-nano", "auto", False),
        ("orin-nano", "on", True),
    ],
)
def test_the_file_decides_about_a_warm_host(
    tmp_path: Path, board: str, said: Literal["auto", "on", "off"], kept: bool
) -> None:
    """What it says wins over what the memory would have said."""
    found = settings(Engine(warm_host=said), probe(jetson(board, tmp_path)), 2 * GIB)

    assert ("host" not in found.without) is kept
