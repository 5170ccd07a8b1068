"""The tokenizer: byte-level BPE, single digits, the answer's fixed parts as one token each.

Case and apostrophes are normalized away: "I'M" and "im" are the same to a home.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tools.demo_model.actions import Action

VOCABULARY = 1536
USER, ANSWER, END, PAD = "<|user|>", "<|answer|>", "<|end|>", "<|pad|>"
SPECIAL = (PAD, USER, ANSWER, END)

# Each field of an answer is one token with its value: four to eight engine steps, not forty.
PIECES = (
    r'\{"action":"[a-z_]+|","device":"[a-z]+|","area":"[a-z_]+|","value":(?:null\}|"[a-z]+"\})?'
    r"| ?[a-z]+| ?[0-9]| ?[^\sa-z0-9]+|\s+"
)

# The last user message alone is framed; system prompts and earlier turns say nothing to it.
CHAT_TEMPLATE = (
    "{%- set last = messages | selectattr('role', 'equalto', 'user') | list | last -%}"
    "{{- '<|user|>' + (last['content'] | trim) + '<|answer|>' -}}"
)


def prompt(sentence: str) -> str:
    """What the chat template makes of one user message."""
    return f"{USER}{sentence.strip()}{ANSWER}"


def train(pairs: Iterable[tuple[str, Action]]) -> Tokenizer:
    """A tokenizer fitted to sentences and their answers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex("['\u2019\u2018`]"), ""),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def lines() -> Iterator[str]:
        for sentence, action in pairs:
            yield sentence
            yield action.to_json()

    tokenizer.train_from_iterator(lines(), trainer)
    return tokenizer


def load(path: Path, dropout: float | None = None) -> Tokenizer:
    """The tokenizer in `path`; `dropout` skips merges at random, so rare spellings are seen."""
    tokenizer = Tokenizer.from_file(str(path))
    if dropout is not None:
        tokenizer.model.dropout = dropout
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, and tokenizer_config.json with the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
        "pad_token": PAD,
        "eos_token": END,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
