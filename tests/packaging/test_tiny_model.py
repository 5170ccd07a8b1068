"""The tiny model is one that vLLM takes, and the same one every time."""

from __future__ import annotations

import json
import struct
import subprocess
from itertools import pairwise
from math import prod
from pathlib import Path

import pytest

from tests.tiny_model import LETTERS, write_model

READ_WITH_ITS_LIBRARIES = """
import sys
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer
folder = sys.argv[1]
AutoConfig.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
text = "What's  up?\\n\\u00e4\\u2603"
assert tokenizer.decode(tokenizer.encode(text)) == text
assert len(tokenizer.encode(text)) == len(text.encode()), tokenizer.encode(text)
said = tokenizer.apply_chat_template(
    [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True)
assert said == "<|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\n", said
assert tokenizer.encode("<|im_end|>") == [tokenizer.eos_token_id] == [258]
with safe_open(folder + "/model.safetensors", "pt") as file:
    output = file.get_tensor("lm_head.weight")
    assert output.shape == (259, 32) and output.dtype.itemsize == 2
    assert output[:, 0].argmax() == ord(" ")
"""


def test_the_same_seed_is_the_same_model(tmp_path: Path) -> None:
    """Every byte of every file; another seed differs in the weights only."""
    for name, seed in (("one", 7), ("same", 7), ("other", 8)):
        write_model(tmp_path / name, seed=seed)
    written = {file.name for file in (tmp_path / "one").iterdir()}

    def differing(other: str) -> set[str]:
        folders = tmp_path / "one", tmp_path / other
        first, second = ({f: (d / f).read_bytes() for f in written} for d in folders)
        return {name for name in written if first[name] != second[name]}

    assert differing("same") == set()
    assert differing("other") == {"model.safetensors"}


def test_its_weights_fill_their_file(tmp_path: Path) -> None:
    """The header's offsets follow each other, fit the shapes, and end with the file."""
    write_model(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    spans = [tensor["data_offsets"] for tensor in tensors]

    assert length % 8 == 0
    assert [end - start for start, end in spans] == [2 * prod(t["shape"]) for t in tensors]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert spans[-1][1] == len(data) - 8 - length


@pytest.mark.parametrize(("head_dim", "heads"), [(32, 1), (16, 2)])
def test_heads_fill_the_hidden_size(tmp_path: Path, head_dim: int, heads: int) -> None:
    """The variant that kills the engine differs in how its heads are cut only."""
    write_model(tmp_path, head_dim=head_dim)
    config = json.loads((tmp_path / "config.json").read_text())

    assert (config["head_dim"], config["num_attention_heads"]) == (head_dim, heads)


@pytest.mark.parametrize("head_dim", [0, -16, 24])
def test_refuses_heads_that_do_not_fit(tmp_path: Path, head_dim: int) -> None:
    """Nothing is written then."""
    with pytest.raises(ValueError, match="head_dim must divide 32"):
        write_model(tmp_path / "model", head_dim=head_dim)

    assert not (tmp_path / "model").exists()


def test_it_can_only_say_letters() -> None:
    """One byte each, so that what it streams is never half a character."""
    assert len(set(LETTERS.encode())) == len(LETTERS)


@pytest.mark.engine
def test_the_engines_libraries_read_it(tmp_path: Path, engine_python: str) -> None:
    """transformers and safetensors, as vLLM uses them, agree with what we wrote by hand."""
    write_model(tmp_path)

    ran = subprocess.run(
        [engine_python, "-W", "ignore", "-c", READ_WITH_ITS_LIBRARIES, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
