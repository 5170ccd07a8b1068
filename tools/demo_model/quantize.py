"""Stores a checkpoint's matrices in 8 bits, in compressed-tensors' int-quantized layout (W8A8).

Weights are int8 with one scale per output; activations are rounded to int8 per token at run time.
Of the formats tried it is the one that every kernel set of vLLM 0.32 has: CPUs with AVX2 only,
where 4-bit weights fail (no cpu_gemm_wna16), CPUs with AVX-512, and NVIDIA from sm_75 (CUTLASS).
"""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

MATRIX = re.compile(r"\.(q|k|v|o|gate|up|down)_proj\.weight$")
# Clips tried per row, from the largest weight's own scale downwards.
CLIPS = tuple(1 - 0.02 * k for k in range(16))

CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "channel",
                "dynamic": False,
            },
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}


def to_grid(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest 8-bit codes, with the clip of least squared error per row.

    weight: (outputs, inputs); returns codes int8 (outputs, inputs) in -127..127 and scales
    float32 (outputs, 1).
    """
    rows = weight.float()
    best = torch.full_like(rows[:, :1], torch.inf)
    scales = torch.zeros_like(best)
    for clip in CLIPS:
        scale = (rows.abs().amax(1, keepdim=True) * clip / 127).clamp(min=1e-8)
        error = (
            ((rows / scale).round().clamp(-127, 127) * scale - rows).square().sum(1, keepdim=True)
        )
        scales = torch.where(error < best, scale, scales)
        best = torch.minimum(error, best)
    return (rows / scales).round().clamp(-127, 127).to(torch.int8), scales


def quantize(source: Path, target: Path) -> None:
    """Write to `target` the checkpoint in `source` with 8-bit matrices; other files are copied."""
    target.mkdir(parents=True, exist_ok=True)
    out: dict[str, Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if MATRIX.search(name):
            out[name], out[f"{name}_scale"] = to_grid(weight)
        else:
            out[name] = weight
    save_file(out, target / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for its owner only; a wheel's files are for everybody.
    (target / "model.safetensors").chmod(0o644)
    config = json.loads((source / "config.json").read_text()) | {"quantization_config": CONFIG}
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, target / name)


def read(folder: Path) -> dict[str, Tensor]:
    """A checkpoint's weights in float32, multiplied out if they are int8."""
    stored = load_file(folder / "model.safetensors")
    return {
        name: tensor.float() * stored.get(f"{name}_scale", torch.tensor(1.0))
        for name, tensor in stored.items()
        if not name.endswith("_scale")
    }
