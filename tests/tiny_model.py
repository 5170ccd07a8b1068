"""Writes a tiny random language model in the format vLLM serves.

Tests and `wattnap demo` need a real model on machines without the network or
a GPU. This one has 27 thousand random parameters and one token per byte, so it
says nothing sensible; but it loads, streams, stops and is the same file for
the same seed. Written by hand, so it needs neither torch nor tokenizers.
"""

import json
import math
import random
import struct
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

HIDDEN = 32
INNER = 64
CONTEXT_TOKENS = 4096
END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 256 + 3

# What it may say, most frequent first; any other byte would show as mojibake.
LETTERS = " etaoinshrdlucmfwypvbgkjqxz."
MEAN_ANSWER_TOKENS = 40
IMPOSSIBLE = 40.0

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{START}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{STOP}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{START}assistant\n{{% endif %}}"
)


def write_model(directory: Path, *, seed: int = 0, head_dim: int = 32) -> None:
    """Write the model to `directory`, made if need be; its old files are overwritten.

    `head_dim` 16 is for crash tests: vLLM on a CPU starts with it, reports that
    it is healthy, and dies of the first request (0.32; its attention kernels
    begin at 32).

    Raises ValueError if `head_dim` does not divide the hidden size.
    """
    if head_dim < 1 or HIDDEN % head_dim:
        raise ValueError(f"head_dim must divide {HIDDEN}, not {head_dim}")
    directory.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": _config(head_dim),
    }
    write_documents(directory, documents | tokenizer_documents(CONTEXT_TOKENS))
    weights = _weights(random.Random(seed))
    (directory / "model.safetensors").write_bytes(_safetensors(weights))


def write_documents(directory: Path, documents: Mapping[str, object]) -> None:
    """Each as JSON, by its file's name."""
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


def tokenizer_documents(context_tokens: int) -> dict[str, object]:
    """The files of a tokenizer with one token per byte and a chat template, by name."""
    return {
        "generation_config.json": {"eos_token_id": token_id(STOP), "pad_token_id": token_id(END)},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": STOP,
            "pad_token": END,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context_tokens,
        },
    }


def _config(head_dim: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": HIDDEN // head_dim,
        "num_key_value_heads": HIDDEN // head_dim,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": token_id(END),
        "eos_token_id": token_id(STOP),
        "pad_token_id": token_id(END),
        # Transformers 4 reads the first, 5 the second.
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
    }


def _tokenizer() -> dict[str, object]:
    """Byte-level BPE that never merges: byte b is token b, then the three specials."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id(token),
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in (END, START, STOP)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {character: byte for byte, character in enumerate(_byte_characters())},
            "merges": [],
        },
    }


def _byte_characters() -> list[str]:
    """Name each byte by one printable character, as GPT-2's byte-level BPE does."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in shown else next(stand_ins)) for byte in range(0x100)]


def token_id(special: str) -> int:
    """Of END, START or STOP."""
    return 256 + (END, START, STOP).index(special)


def _weights(chance: random.Random) -> dict[str, list[list[float]] | list[float]]:
    """Random weights, but for two hidden dimensions that no layer writes to.

    The first is 1 in every token's embedding: Llama's output layer has no bias,
    and its first column so becomes one, which says how likely each token is.
    The second marks a newline, with which the chat template ends: after one the
    answer may not stop, so that no answer is empty. Nothing else moves the end's
    likelihood, so that few answers are short.
    """

    def matrix(rows: int, columns: int, scale: float) -> list[list[float]]:
        return [[chance.gauss(0, scale) for _ in range(columns)] for _ in range(rows)]

    def reserving(rows: list[list[float]]) -> list[list[float]]:
        return [[0.0] * len(rows[0])] * 2 + rows[2:]

    spread = HIDDEN**-0.5
    embedding = [[1.0, 0.0, *row[2:]] for row in matrix(VOCABULARY, HIDDEN, 1.0)]
    embedding[ord("\n")][1] = 1.0
    output = [
        [bias, 0.0, *row[2:]]
        for bias, row in zip(_biases(), matrix(VOCABULARY, HIDDEN, spread), strict=True)
    ]
    output[token_id(STOP)] = [output[token_id(STOP)][0], -IMPOSSIBLE, *[0.0] * (HIDDEN - 2)]
    ones = [1.0] * HIDDEN
    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": embedding,
        layer + "input_layernorm.weight": ones,
        layer + "self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN, spread),
        layer + "self_attn.k_proj.weight": matrix(HIDDEN, HIDDEN, spread),
        layer + "self_attn.v_proj.weight": matrix(HIDDEN, HIDDEN, spread),
        layer + "self_attn.o_proj.weight": reserving(matrix(HIDDEN, HIDDEN, spread)),
        layer + "post_attention_layernorm.weight": ones,
        layer + "mlp.gate_proj.weight": matrix(INNER, HIDDEN, spread),
        layer + "mlp.up_proj.weight": matrix(INNER, HIDDEN, spread),
        layer + "mlp.down_proj.weight": reserving(matrix(HIDDEN, INNER, INNER**-0.5)),
        "model.norm.weight": ones,
        "lm_head.weight": output,
    }


def _biases() -> list[float]:
    """Logit of each token: letters by rank, the end once in a mean answer, the rest never."""
    biases = [-IMPOSSIBLE] * VOCABULARY
    shares = [1 / (rank + 3) for rank in range(len(LETTERS))]
    for letter, share in zip(LETTERS, shares, strict=True):
        biases[ord(letter)] = math.log(share)
    biases[token_id(STOP)] = math.log(sum(shares) / MEAN_ANSWER_TOKENS)
    return biases


def _safetensors(tensors: dict[str, list[list[float]] | list[float]]) -> bytes:
    """The whole file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, tensor in tensors.items():
        rows = [row if isinstance(row, list) else [row] for row in tensor]
        shape = [len(rows), len(rows[0])] if isinstance(tensor[0], list) else [len(rows)]
        data = b"".join(_bfloat16(row) for row in rows)
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
        body += data
    return safetensors_header(header) + bytes(body)


def safetensors_header(header: Mapping[str, object]) -> bytes:
    """How a file begins: length of the header, header in JSON. The tensors' bytes follow.

    Source: the safetensors project's README, "Format".
    """
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)  # tensors begin at a multiple of eight bytes
    return struct.pack("<Q", len(described)) + described


def _bfloat16(values: Sequence[float]) -> bytes:
    """The upper half of each float32, rounded."""
    words = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    return struct.pack(f"<{len(values)}H", *(word + 0x8000 >> 16 for word in words))


def main(arguments: Sequence[str]) -> None:
    """Write the model where the command line says."""
    parser = ArgumentParser(prog="python -m tests.tiny_model", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head-dim", type=int, default=32, help="16 kills vLLM on a CPU")
    chosen = parser.parse_args(arguments)
    write_model(chosen.directory, seed=chosen.seed, head_dim=chosen.head_dim)


if __name__ == "__main__":
    main(sys.argv[1:])
