"""The model for measurements: its files, with few layers or none."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path

from bench.big_model import HIDDEN, random_block, tensors, write_model
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


def test_its_numbers_are_as_large_as_weights() -> None:
    """bf16, of both signs, from 1/64 to 1/32; the same for the same seed."""
    words = struct.unpack("<1000H", random_block(3)[:2000])
    numbers = [struct.unpack("<f", struct.pack("<I", word << 16))[0] for word in words]

    assert all(1 / 64 <= abs(number) < 1 / 32 for number in numbers)
    assert 400 < sum(number < 0 for number in numbers) < 600
    assert len(set(numbers)) > 200
    assert random_block(3)[:2000] == random_block(3)[:2000] != random_block(4)[:2000]
