"""Training batches, made by worker processes while the model learns.

Every shard is a function of (seed, index), so the whole order is fixed by the seed.
"""

from collections.abc import Iterator
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.demo_model import tokens
from tools.demo_model.grammar import Grammar

SHARD = 32768
# Batches are padded to one of these lengths in tokens; longer samples are dropped.
LENGTHS = (16, 20, 24, 28, 32, 40, 56)
BPE_DROPOUT = 0.1
BPE_DROPOUT_SHARE = 0.3

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Token ids (batch, length) and, per row, the index of the answer's first token."""


def shard(seed: int, index: int, tokenizer_path: Path, batch: int) -> list[Batch]:
    """One shard's batches, in random order; rows of a batch are of similar length."""
    source = Grammar(seed * 1_000_003 + index)
    plain = tokens.load(tokenizer_path)
    rough = tokens.load(tokenizer_path, BPE_DROPOUT)
    rng = np.random.default_rng((seed, index))
    rows: dict[int, list[tuple[list[int], int]]] = {length: [] for length in LENGTHS}
    drawn = [source.draw() for _ in range(SHARD)]
    use_rough = rng.random(SHARD) < BPE_DROPOUT_SHARE
    answers = plain.encode_batch([a.to_json() + tokens.END for _, a in drawn])
    for (sentence, _), is_rough, answer in zip(drawn, use_rough, answers, strict=True):
        # BPE dropout (Provilkov et al., 2020) for the prompt only: the answer has one spelling.
        question = (rough if is_rough else plain).encode(tokens.prompt(sentence)).ids
        size = len(question) + len(answer.ids)
        fit = next((length for length in LENGTHS if size <= length), None)
        if fit is not None:
            rows[fit].append((question + answer.ids, len(question)))
    batches: list[Batch] = []
    for length, found in rows.items():
        # Equal token counts per batch: short rows come in larger batches.
        size = batch * LENGTHS[-1] // length
        for start in range(0, len(found) - size // 2, size):
            part = found[start : start + size]
            ids = np.zeros((len(part), length), np.int64)
            for row, (sample, _) in zip(ids, part, strict=True):
                row[: len(sample)] = sample
            batches.append((ids, np.array([begin for _, begin in part])))
    return [batches[i] for i in rng.permutation(len(batches))]


def _work(job: tuple[int, int, Path, int]) -> list[Batch]:
    return shard(*job)


def stream(seed: int, tokenizer_path: Path, batch: int, workers: int) -> Iterator[Batch]:
    """Endless batches of shards 0, 1, 2, ...; about `batch` rows of the longest length each."""
    jobs = ((seed, index, tokenizer_path, batch) for index in count())
    if workers == 0:
        for job in jobs:
            yield from shard(*job)
    # spawn: a forked copy of a process with a CUDA context is undefined.
    with get_context("spawn").Pool(workers) as pool:
        # At most two shards per worker are ahead, or imap would fill the memory.
        ahead = [pool.apply_async(_work, (next(jobs),)) for _ in range(2 * workers)]
        while True:
            batches = ahead.pop(0).get()
            ahead.append(pool.apply_async(_work, (next(jobs),)))
            yield from batches
