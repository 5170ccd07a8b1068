"""Writes a model in 7B's shape with random weights, 13 GB of bf16, for measurements on a GPU.

    python -m bench.big_model DIR [--layers 28] [--form awq]

Qwen2.5-7B's layers, a vocabulary of 259 (one token per byte), Python's own library only.
It says nothing sensible, always the same. Takes a minute, and as much disk; a quarter of
both with 4 bits (awq, gptq), half with 8 (int8).
"""

from __future__ import annotations

import argparse
import random
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

from bench.weight_forms import BYTES, CONFIGS, FORMS, Shape, Tensor
from tests.tiny_model import (
    END,
    STOP,
    VOCABULARY,
    safetensors_header,
    token_id,
    tokenizer_documents,
    write_documents,
)

HIDDEN, INNER, HEADS, KV_HEADS, HEAD = 3584, 18944, 28, 4, 128
CONTEXT_TOKENS = 32768
FILES = 4
ONE = b"\x80\x3f"  # in bf16
BLOCK_BYTES = 64 << 20
"""Of random bytes, over and over: no layer begins in it where the one before did."""


def tensors(layers: int) -> Iterator[tuple[str, Shape]]:
    """Names as transformers has them for Qwen2, in the order of the files."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for number in range(layers):
        layer = f"model.layers.{number}"
        yield f"{layer}.input_layernorm.weight", (HIDDEN,)
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{layer}.self_attn.{name}_proj.weight", (heads * HEAD, HIDDEN)
            yield f"{layer}.self_attn.{name}_proj.bias", (heads * HEAD,)
        yield f"{layer}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield f"{layer}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{layer}.mlp.gate_proj.weight", (INNER, HIDDEN)
        yield f"{layer}.mlp.up_proj.weight", (INNER, HIDDEN)
        yield f"{layer}.mlp.down_proj.weight", (HIDDEN, INNER)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def stored(layers: int, form: str) -> Iterator[Tensor]:
    """The same as they lie in the files: what a layer multiplies by in that form, else bf16."""
    for name, shape in tensors(layers):
        stem = name.removesuffix(".weight")
        if stem.endswith("_proj"):
            yield from FORMS[form](stem, *shape)
        else:
            yield Tensor(name, "BF16", shape, ONE if name.endswith("norm.weight") else b"")


def config(layers: int, form: str) -> dict[str, object]:
    quantized = {"quantization_config": CONFIGS[form]} if CONFIGS[form] else {}
    return quantized | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "bos_token_id": token_id(END),
        "eos_token_id": token_id(STOP),
        # Transformers 4 reads the first, 5 the second.
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
    }


def random_block(seed: int) -> memoryview:
    """Of bf16 numbers between 1/64 and 1/32, either sign: about what trained weights measure."""
    words = BLOCK_BYTES // 2
    sign_and_fraction = int.from_bytes(b"\x7f\x80" * words, "little")
    exponent = int.from_bytes(struct.pack("<H", (127 - 6) << 7) * words, "little")
    noise = int.from_bytes(random.Random(seed).randbytes(BLOCK_BYTES), "little")
    return memoryview((noise & sign_and_fraction | exponent).to_bytes(BLOCK_BYTES, "little"))


def noise_block(seed: int) -> memoryview:
    """Of integers, spread evenly."""
    return memoryview(random.Random(seed).randbytes(BLOCK_BYTES))


def write_tensor(file: BinaryIO, tensor: Tensor, block: memoryview, at: int) -> int:
    """Write it; return where in the block the next one begins."""
    size = size_of(tensor)
    if tensor.unit:
        file.write(tensor.unit * (size // len(tensor.unit)))
        return at
    while size:
        piece = block[at : at + size]
        file.write(piece)
        size -= len(piece)
        at = (at + len(piece)) % BLOCK_BYTES
    return at


def size_of(tensor: Tensor) -> int:
    return BYTES[tensor.dtype] * prod(tensor.shape)


def write_model(directory: Path, *, layers: int = 28, form: str = "bf16", seed: int = 0) -> int:
    """Write the model to `directory`, made if need be; return the bytes of its weights."""
    directory.mkdir(parents=True, exist_ok=True)
    named = list(stored(layers, form))
    each = -(-len(named) // FILES)
    parts = [named[first : first + each] for first in range(0, len(named), each)]
    numbers, noise = random_block(seed), noise_block(seed)
    at, total = 0, 0
    where: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file_name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for tensor in part:
            name, dtype, shape, _ = tensor
            begin, end = end, end + size_of(tensor)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            where[name] = file_name
        with (directory / file_name).open("wb") as file:
            file.write(safetensors_header(header))
            for tensor in part:
                block = numbers if tensor.dtype == "BF16" else noise
                at = write_tensor(file, tensor, block, at)
        total += end
        print(f"{file_name}: {end / 1e9:.1f} GB", flush=True)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    documents: dict[str, object] = {
        "config.json": config(layers, form),
        "model.safetensors.index.json": index,
    }
    write_documents(directory, documents | tokenizer_documents(CONTEXT_TOKENS))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--form", choices=FORMS, default="bf16")
    chosen = parser.parse_args()
    total = write_model(chosen.directory, layers=chosen.layers, form=chosen.form)
    print(f"{chosen.directory}: {total / 1e9:.2f} GB of weights")


if __name__ == "__main__":
    main()
