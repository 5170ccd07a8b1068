"""What the file says of an engine's start, as a server finds it: real processes, no vLLM."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from appliance.building import build_engine
from appliance.config import Config
from tests.fakes.python_with_vllm import python_that_serves, python_with

SMALL = ["1", "2", "4"]
DECODING = [*SMALL, "8", "16", "24", "32", "48", "64"]
FEW = [*DECODING, "96", "128"]
CACHES = (
    "VLLM_CACHE_ROOT",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "FLASHINFER_WORKSPACE_BASE",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """On a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        yield Path(place)


@dataclass
class Told:
    """A server's command line and environment."""

    words: list[str]
    env: dict[str, str]

    def after(self, flag: str) -> list[str] | None:
        """What follows a flag, up to the next; None without it."""
        if flag not in self.words:
            return None
        rest = self.words[self.words.index(flag) + 1 :]
        return rest[: next((n for n, word in enumerate(rest) if word[:2] == "--"), len(rest))]


async def told(
    place: Path, *, vllm: str = "0.32.0", instant: bool = False, life: str = "run", **engine: Any
) -> Told:
    """Start an engine of that vLLM as the daemon would, with these keys in the file.

    `instant`: InstantTensor is beside it.
    """
    python = python_that_serves(place / "venv", vllm)
    if instant:
        python_with(place / "venv", "0.2.2", "instanttensor")
    keys: dict[str, Any] = {
        "python": str(python),
        "model": str(place),
        "device": "cuda",
        "warm_host": "off",
    }
    file = {
        "state_dir": str(place / "state"),
        "runtime_dir": str(place / life),
        "engine": keys | engine,
    }
    made = build_engine(msgspec.convert(file, Config))
    try:
        server = psutil.Process((await made.start()).pids[0])
        return Told(server.cmdline(), server.environ())
    finally:
        await made.dismiss()


async def test_a_start_as_the_file_says(place: Path) -> None:
    """Each key that makes a start quick or an engine small is a flag, or a variable."""
    found = await told(
        place,
        max_model_len=512,
        kv_cache_mib=64,
        max_running=2,
        quantization="fp8",
        speculative_ngram_tokens=3,
        priority_scheduling=True,
        prefix_caching=False,
        cudagraph_capture_sizes=[1, 2],
        startup_plan=True,
        args=["--dtype", "float16"],
        env={"VLLM_LOGGING_LEVEL": "DEBUG"},
    )

    assert found.after("--max-model-len") == ["512"]
    assert found.after("--kv-cache-memory-bytes") == [str(64 << 20)]
    assert found.after("--max-num-seqs") == ["2"]
    assert found.after("--quantization") == ["fp8"]
    assert found.after("--scheduling-policy") == ["priority"]
    assert found.after("--no-enable-prefix-caching") == []
    assert found.after("--cudagraph-capture-sizes") == ["1", "2"]
    assert found.after("--dtype") == ["float16"]
    assert found.after("--enforce-eager") is None
    assert '"num_speculative_tokens": 3' in (found.after("--speculative-config") or [""])[0]
    assert found.env["VLLM_ENABLE_STARTUP_PLAN"] == "1"
    assert found.env["VLLM_LOGGING_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        ({}, DECODING),
        ({"compile": True}, FEW),
        ({"max_running": 4}, SMALL),
        ({"max_running": 4, "compile": True}, FEW),
        ({"cudagraph_capture_sizes": []}, None),
        ({"cudagraph_capture_sizes": [1, 2]}, ["1", "2"]),
        ({"enforce_eager": True}, None),
        ({"device": "cpu"}, None),
        ({"args": ["--max-cudagraph-capture-size", "8"]}, None),
    ],
    ids=str,
)
async def test_graphs(place: Path, keys: dict[str, Any], sizes: list[str] | None) -> None:
    """By default few sizes; none where there are no graphs, or where args speak of them."""
    assert (await told(place, **keys)).after("--cudagraph-capture-sizes") == sizes


@pytest.mark.parametrize(
    ("keys", "alone"), [({}, True), ({"compile": True}, False), ({"device": "cpu"}, False)], ids=str
)
async def test_compiled_or_not(place: Path, keys: dict[str, Any], *, alone: bool) -> None:
    """By default a GPU's engine is not compiled; how a CPU's is nobody says."""
    assert ((await told(place, **keys)).after("--compilation-config") is not None) is alone


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        ({}, ["instanttensor"]),
        ({"load_format": "safetensors"}, ["safetensors"]),
        ({"args": ["--load-format", "dummy"]}, ["dummy"]),
        ({"device": "cpu"}, None),
    ],
    ids=str,
)
async def test_how_weights_are_read(
    place: Path, keys: dict[str, Any], form: list[str] | None
) -> None:
    """Fastest if there are safetensors, and the engine has what reads them so."""
    (place / "model.safetensors").touch()
    found = await told(place, instant=True, **keys)

    assert found.after("--load-format") == form
    if form == ["instanttensor"]:
        assert found.env["INSTANTTENSOR_BACKEND"] == "BUFFERED"


async def test_what_cannot_be_read_fastest(place: Path) -> None:
    """Without the package, or without safetensors, vLLM reads as it thinks best."""
    other = await told(place, instant=True)
    (place / "model.safetensors").touch()
    lacking = await told(place, instant=False)

    assert other.after("--load-format") is lacking.after("--load-format") is None


@pytest.mark.parametrize(
    ("vllm", "flag", "plan"),
    [
        ("0.11.2", "--cuda-graph-sizes", None),
        ("0.26.0", "--cudagraph-capture-sizes", "1"),
        ("0.32.0", "--cudagraph-capture-sizes", "1"),
    ],
)
async def test_in_the_words_of_its_version(
    place: Path, vllm: str, flag: str, plan: str | None
) -> None:
    found = await told(place, vllm=vllm, startup_plan=True, max_running=4, compile=True)

    assert found.after(flag) == FEW
    assert found.env.get("VLLM_ENABLE_STARTUP_PLAN") == plan


async def test_caches_outlive_the_daemon(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One absolute folder each, of the file's or else of the state's, whoever ends meanwhile."""
    first = await told(place)
    for name in CACHES:
        Path(first.env[name]).mkdir(parents=True, exist_ok=True)
        (Path(first.env[name]) / "compiled").touch()
    second = await told(place, life="later")
    monkeypatch.chdir(place)
    named = await told(place, cache_dir="elsewhere")

    assert [second.env[name] for name in CACHES] == [first.env[name] for name in CACHES]
    assert {Path(first.env[name]).parent for name in CACHES} == {place / "state/cache"}
    assert all((Path(first.env[name]) / "compiled").exists() for name in CACHES)
    assert {Path(named.env[name]).parent for name in CACHES} == {place / "elsewhere"}
    assert Path(named.env["CUDA_CACHE_PATH"]).is_dir()
    assert not any(Path(second.env[name]).is_relative_to(place / "later") for name in CACHES)
