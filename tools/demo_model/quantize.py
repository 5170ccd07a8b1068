"""Stores a checkpoint's matrices in 4 bits, in compressed-tensors' pack-quantized layout.

The layout is that of compressed-tensors 0.17 as vLLM 0.32 reads it; our own file has the same
tensor names, types and shapes as one from llm-compressor's W4A16 scheme.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo_model.model import GROUP

MATRIX = re.compile(r"\.(q|k|v|o|gate|up|down)_proj\.weight$")
# Clips tried per group, from the largest weight's own scale downwards.
CLIPS = tuple(1 - 0.02 * k for k in range(20))

CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": GROUP,
                "dynamic": False,
            },
        }
    },
}


def to_grid(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest 4-bit codes, with the clip of least squared error per group.

    weight: (outputs, inputs); returns codes int8 (outputs, inputs) in -8..7 and scales bfloat16
    (outputs, inputs / 128).
    """
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    best = torch.full_like(groups[..., :1], torch.inf)
    scales = torch.zeros_like(best)
    for clip in CLIPS:
        # Stored in bfloat16, so the search sees the scale that will be used.
        scale = (groups.abs().amax(-1, keepdim=True) * clip / 7.5).clamp(min=1e-6).bfloat16().float()
        error = ((groups / scale).round().clamp(-8, 7) * scale - groups).square().sum(-1, keepdim=True)
        scales = torch.where(error < best, scale, scales)
        best = torch.minimum(error, best)
    codes = (groups / scales).round().clamp(-8, 7).reshape(weight.shape).to(torch.int8)
    return codes, scales[..., 0].bfloat16()


def pack(codes: Tensor) -> Tensor:
    """Eight codes per int32, lowest first, each stored plus 8: (outputs, inputs / 8)."""
    nibbles = (codes.to(torch.int64) + 8).reshape(codes.shape[0], -1, 8)
    words = (nibbles << (4 * torch.arange(8))).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpack(words: Tensor, scales: Tensor) -> Tensor:
    """The float32 matrix (outputs, inputs) that packed words and scales stand for."""
    nibbles = (words.to(torch.int64)[..., None] >> (4 * torch.arange(8))) & 15
    codes = (nibbles - 8).reshape(words.shape[0], -1, GROUP)
    return (codes * scales.float()[..., None]).reshape(words.shape[0], -1)


def quantize(source: Path, target: Path) -> None:
    """Write to `target` the checkpoint in `source` with 4-bit matrices; other files are copied."""
    target.mkdir(parents=True, exist_ok=True)
    out: dict[str, Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if not MATRIX.search(name):
            out[name] = weight
            continue
        codes, scales = to_grid(weight)
        prefix = name.removesuffix("weight")
        out[f"{prefix}weight_packed"] = pack(codes)
        out[f"{prefix}weight_scale"] = scales
        out[f"{prefix}weight_shape"] = torch.tensor(weight.shape)
    save_file(out, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"quantization_config": CONFIG}
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, target / name)


def read(folder: Path) -> dict[str, Tensor]:
    """A checkpoint's weights in float32, unpacked if they are packed."""
    stored = load_file(folder / "model.safetensors")
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith("weight_packed"):
            prefix = name.removesuffix("weight_packed")
            weights[f"{prefix}weight"] = unpack(tensor, stored[f"{prefix}weight_scale"])
        elif not name.endswith(("weight_scale", "weight_shape")):
            weights[name] = tensor.float()
    return weights
