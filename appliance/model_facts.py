"""What a model's files say of its size. A model that is only named has none here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = {".safetensors", ".bin", ".gguf", ".pt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """0, False: nobody knows.

    weights_bytes   of all files with weights
    safetensors     they are of that kind
    token_bytes     of the KV cache, for each token; at most
    longest_tokens  prompt and answer together
    """

    weights_bytes: int = 0
    safetensors: bool = False
    token_bytes: int = 0
    longest_tokens: int = 0


def model_facts(model: Path) -> ModelFacts:
    """Of the model in that folder; nothing if it is none."""
    try:
        sizes = {path: path.stat().st_size for path in model.iterdir() if path.suffix in WEIGHTS}
    except OSError:
        return ModelFacts()
    shape = _shape(model / "config.json")
    return ModelFacts(
        weights_bytes=sum(sizes.values()),
        safetensors=any(path.suffix == ".safetensors" for path in sizes),
        token_bytes=_token_bytes(shape),
        longest_tokens=_number(shape, "max_position_embeddings"),
    )


def _shape(path: Path) -> dict[str, Any]:  # JSON
    """Of the part that writes text, where there are others."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    shape = told.get("text_config", told) if isinstance(told, dict) else {}
    return shape if isinstance(shape, dict) else {}


def _token_bytes(shape: dict[str, Any]) -> int:
    """A key and a value for each head of each layer. Models that keep less are taken for more."""
    heads = _number(shape, "num_attention_heads")
    head = _number(shape, "head_dim") or _number(shape, "hidden_size") // max(1, heads)
    kept = _number(shape, "num_key_value_heads") or heads
    whole = "float32" in {shape.get("torch_dtype"), shape.get("dtype")}
    return _number(shape, "num_hidden_layers") * 2 * kept * head * (4 if whole else 2)


def _number(shape: dict[str, Any], key: str) -> int:
    value = shape.get(key)
    return value if isinstance(value, int) and value > 0 else 0
