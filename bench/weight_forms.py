"""How a linear layer's weights are stored: as bf16, or quantized as AWQ, GPTQ and W8A8 are.

Shapes, names and packing are those of the checkpoints that vLLM loads
(model_executor/layers/quantization: awq.py, gptq.py, compressed_tensors; 0.26). The numbers
are random, with scales that make them about as large as trained ones.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

GROUP = 128
"""Inputs that share a scale, of 4 bits each."""
SCALE_4 = 0.005
SCALE_8 = 0.0003
"""Of integers spread evenly: either way weights of 0.02."""

Shape = tuple[int, ...]

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I8": 1}


class Tensor(NamedTuple):
    """unit: what fills it, again and again; empty: random numbers of its type."""

    name: str
    dtype: str
    shape: Shape
    unit: bytes = b""


def awq(stem: str, outputs: int, inputs: int) -> Iterator[Tensor]:
    """Eight neighbours of the outputs in a word; zero points in the middle."""
    half = struct.pack("<I", 0x88888888)
    yield Tensor(f"{stem}.qweight", "I32", (inputs, outputs // 8))
    yield Tensor(f"{stem}.qzeros", "I32", (inputs // GROUP, outputs // 8), half)
    yield Tensor(f"{stem}.scales", "F16", (inputs // GROUP, outputs), struct.pack("<e", SCALE_4))


def gptq(stem: str, outputs: int, inputs: int) -> Iterator[Tensor]:
    """Eight neighbours of the inputs in a word; zero points are stored less one."""
    below_half = struct.pack("<I", 0x77777777)
    groups = struct.pack(f"<{inputs}i", *(number // GROUP for number in range(inputs)))
    yield Tensor(f"{stem}.qweight", "I32", (inputs // 8, outputs))
    yield Tensor(f"{stem}.qzeros", "I32", (inputs // GROUP, outputs // 8), below_half)
    yield Tensor(f"{stem}.scales", "F16", (inputs // GROUP, outputs), struct.pack("<e", SCALE_4))
    yield Tensor(f"{stem}.g_idx", "I32", (inputs,), groups)


def int8(stem: str, outputs: int, inputs: int) -> Iterator[Tensor]:
    """A scale for each output; inputs are quantized as they come (W8A8)."""
    yield Tensor(f"{stem}.weight", "I8", (outputs, inputs))
    yield Tensor(f"{stem}.weight_scale", "F32", (outputs, 1), struct.pack("<f", SCALE_8))


def bf16(stem: str, outputs: int, inputs: int) -> Iterator[Tensor]:
    yield Tensor(f"{stem}.weight", "BF16", (outputs, inputs))


FORMS: dict[str, Callable[[str, int, int], Iterator[Tensor]]] = {
    "bf16": bf16,
    "awq": awq,
    "gptq": gptq,
    "int8": int8,
}

SHIPPED = Path(__file__).parent.parent / "appliance" / "demo_model" / "config.json"
"""Of the model in the box, which is W8A8."""
CONFIGS: dict[str, dict[str, object]] = {
    "bf16": {},
    "awq": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "version": "gemm",
    },
    "gptq": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": GROUP,
        "sym": True,
        "desc_act": False,
    },
    "int8": json.loads(SHIPPED.read_text())["quantization_config"],
}
"""`quantization_config` of the model's config.json."""
