"""What a model's files say of its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance import home_action
from appliance.model_facts import ModelFacts, model_facts

LLAMA = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def with_config(folder: Path, config: Any) -> ModelFacts:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return model_facts(folder)


def test_weights(tmp_path: Path) -> None:
    """The files with weights count, and nothing else does."""
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"x" * 50)
    (tmp_path / "tokenizer.json").write_text("{}")

    assert model_facts(tmp_path) == ModelFacts(weights_bytes=150, safetensors=True)
    assert model_facts(Path("Qwen/Qwen2.5-3B-Instruct-AWQ")) == ModelFacts()


def test_other_weights(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"x" * 10)

    assert model_facts(tmp_path) == ModelFacts(weights_bytes=10)


@pytest.mark.parametrize(
    ("config", "token_bytes", "longest_tokens"),
    [
        (LLAMA, 131072, 8192),
        (LLAMA | {"head_dim": 64}, 65536, 8192),
        (LLAMA | {"torch_dtype": "float32"}, 262144, 8192),
        ({"text_config": LLAMA, "vision_config": {}}, 131072, 8192),
        (LLAMA | {"num_key_value_heads": None}, 524288, 8192),
        ({"n_layer": 12}, 0, 0),
        (LLAMA | {"num_hidden_layers": "many", "max_position_embeddings": -1}, 0, 0),
        ({"text_config": 5}, 0, 0),
        ([], 0, 0),
        ("{", 0, 0),
        ("", 0, 0),
    ],
)
def test_its_shape(tmp_path: Path, config: Any, token_bytes: int, longest_tokens: int) -> None:
    """Bytes of the KV cache for a token, and how many there may be; 0 where nobody knows."""
    found = with_config(tmp_path, config)

    assert (found.token_bytes, found.longest_tokens) == (token_bytes, longest_tokens)


def test_the_model_in_the_box() -> None:
    """As vLLM counts it: 2 097 152 tokens in 4 GiB."""
    found = model_facts(home_action.MODEL)

    assert (found.token_bytes, found.longest_tokens) == (2048, 512)
    assert found.safetensors
