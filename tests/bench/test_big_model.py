"""The model for measurements: its files, with few layers or none."""

from __future__ import annotations

import json
import struct
import tempfile
from math import prod
from pathlib import Path

import pytest

from bench.big_model import HIDDEN, random_block, size_of, stored, tensors, write_model
from bench.weight_forms import Tensor
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings
from tests.contracts.engine import answer, chat_body
from tests.drivers.parts import started
from tests.tiny_model import VOCABULARY


def test_it_is_of_7bs_size() -> None:
    assert sum(2 * prod(shape) for _, shape in tensors(28)) == 13_054_956_544


def test_the_files_hold_what_the_index_says(tmp_path: Path) -> None:
    """Each tensor once, with as many bytes as its shape needs, and nothing after the last."""
    total = write_model(tmp_path, layers=0)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())

    assert total == index["metadata"]["total_size"] == 2 * HIDDEN * (2 * VOCABULARY + 1)

    found = {}
    for file in sorted(tmp_path.glob("*.safetensors")):
        raw = file.read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        header = json.loads(raw[8 : 8 + length])
        del header["__metadata__"]
        for name, told in header.items():
            begin, end = told["data_offsets"]

            assert end - begin == 2 * prod(told["shape"])

            found[name] = file.name
        assert len(raw) == 8 + length + max(t["data_offsets"][1] for t in header.values())
    assert found == index["weight_map"]
    assert found.keys() == {name for name, _ in tensors(0)}


@pytest.mark.parametrize(
    ("form", "gb"), [("bf16", 13.05), ("awq", 3.39), ("gptq", 3.39), ("int8", 6.54)]
)
def test_a_quantized_one_is_smaller(form: str, gb: float) -> None:
    """By as much as its form promises; what no layer multiplies by stays as it is."""
    assert sum(map(size_of, stored(28, form))) / 1e9 == pytest.approx(gb, abs=0.01)
    assert all(size_of(t) % max(1, len(t.unit)) == 0 for t in stored(1, form))
    assert Tensor("lm_head.weight", "BF16", (VOCABULARY, HIDDEN)) in set(stored(1, form))


def test_its_numbers_are_as_large_as_weights() -> None:
    """bf16, of both signs, from 1/64 to 1/32; the same for the same seed."""
    words = struct.unpack("<1000H", random_block(3)[:2000])
    numbers = [struct.unpack("<f", struct.pack("<I", word << 16))[0] for word in words]

    assert all(1 / 64 <= abs(number) < 1 / 32 for number in numbers)
    assert 400 < sum(number < 0 for number in numbers) < 600
    assert len(set(numbers)) > 200
    assert random_block(3)[:2000] == random_block(3)[:2000] != random_block(4)[:2000]


@pytest.mark.engine
@pytest.mark.timeout(300)
async def test_vllm_takes_its_quantized_form(engine_python: str) -> None:
    """AWQ, one layer of it: served, put to sleep, and the same after its weights came back."""
    settings = Settings(
        max_model_len=512, kv_cache_bytes=64 << 20, max_num_seqs=4, enforce_eager=True
    )
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        write_model(Path(place) / "model", layers=1, form="awq")
        engine = VllmEngine(
            python=Path(engine_python),
            model=str(Path(place) / "model"),
            served_name="main",
            runtime_dir=Path(place) / "run",
            cache_dir=Path(place) / "cache",
            device="cpu",
            settings=settings,
            sleep_level=2,
        )
        async with started(engine):
            body = chat_body(temperature=0, logprobs=True, top_logprobs=5, ignore_eos=True)
            before = await answer(engine, body)
            await engine.sleep()
            await engine.wake()
            after = await answer(engine, body)
            sizes = [file.stat().st_size for file in (Path(place) / "cache/images").iterdir()]

    assert after["choices"] == before["choices"]
    assert sum(sizes) > 110_000_000
