"""Scores a checkpoint, by exact match of the whole answer line, in PyTorch.

The engine's own kernels are scored by serve.py; the two agree to within a few answers.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tools.demo_model import quantize, tokens
from tools.demo_model.actions import Action, parse_action
from tools.demo_model.grammar import Grammar
from tools.demo_model.model import Llama, Shape
from tools.demo_model.templates import DATA

ANSWER_TOKENS = 20
TEST_SEED = 20261121

Case = tuple[str, Action]


@dataclass(frozen=True)
class Score:
    """How a set of commands was answered.

    wrong   (command, expected line, given line)
    """

    name: str
    total: int
    wrong: Sequence[tuple[str, str, str]]

    @property
    def percent(self) -> float:
        """Share of exact answers, in percent."""
        return 100 * (1 - len(self.wrong) / self.total)

    def __str__(self) -> str:
        right = self.total - len(self.wrong)
        return f"{self.name:24s} {right:5d} of {self.total:5d}  {self.percent:5.1f} %"


def free_hand(name: str) -> list[Case]:
    """A hand-written set: data/freehand_NAME.txt."""
    lines = (DATA / f"freehand_{name}.txt").read_text().splitlines()
    pairs = [line.rsplit(" | ", 1) for line in lines if line and not line.startswith("#")]
    return [(command, parse_action(words)) for command, words in pairs]


def unseen_templates(total: int, *, fold: str, noisy: bool) -> list[Case]:
    """`total` different commands from templates that training never draws from."""
    source = Grammar(TEST_SEED, fold=fold, noisy=noisy)
    cases: dict[str, Action] = {}
    while len(cases) < total:
        sentence, action = source.draw()
        cases.setdefault(sentence, action)
    return list(cases.items())


def score(name: str, cases: Sequence[Case], machine: "Machine") -> Score:
    """Score every case, and let the machine spell out what it said where it was wrong."""
    right = machine.agrees(cases)
    failed = [case for case, good in zip(cases, right, strict=True) if not good]
    lines = machine.answer([command for command, _ in failed])
    pairs = zip(failed, lines, strict=True)
    return Score(name, len(cases), [(c, a.to_json(), line) for (c, a), line in pairs])


def by_action(cases: Sequence[Case], result: Score) -> dict[str, str]:
    """Right of total, by expected action and device."""
    kind_of = {command: f"{a.action} {a.device}" for command, a in cases}
    totals = Counter(kind_of.values())
    wrong = Counter(kind_of[command] for command, _, _ in result.wrong)
    return {kind: f"{n - wrong[kind]}/{n}" for kind, n in sorted(totals.items())}


def load(folder: Path, device: str) -> Llama:
    """The checkpoint in `folder`, 8-bit or not, as a float32 model in evaluation mode.

    Activations are not rounded here; the engine's kernels round them.
    """
    model = Llama(Shape.of(json.loads((folder / "config.json").read_text())))
    model.load_state_dict(quantize.read(folder))
    return model.to(device).eval()


class Machine:
    """A model that answers commands greedily."""

    def __init__(self, model: Llama, tokenizer: Tokenizer, device: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device

    @torch.inference_mode()
    def agrees(self, cases: Sequence[Case], batch: int = 64) -> list[bool]:
        """Whether each case's line is exactly what greedy decoding would give.

        It is if every token of it is the likeliest after those before: one pass, not one a token.
        """
        encode = self._tokenizer.encode
        rows = []
        for command, action in cases:
            prompt = encode(tokens.prompt(command)).ids
            rows.append((prompt, encode(action.to_json() + tokens.END).ids))
        # Similar lengths together; padding is most of the work otherwise.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        good = [False] * len(rows)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            ids = torch.zeros(
                len(part), max(sum(map(len, rows[i])) for i in part), dtype=torch.long
            )
            for line, i in zip(ids, part, strict=True):
                line[: sum(map(len, rows[i]))] = torch.tensor(rows[i][0] + rows[i][1])
            likeliest = self._model(ids.to(self._device)).argmax(-1).tolist()
            for line, i in zip(likeliest, part, strict=True):
                prompt, answer = rows[i]
                good[i] = line[len(prompt) - 1 : len(prompt) + len(answer) - 1] == answer
        return good

    @torch.inference_mode()
    def answer(self, commands: Sequence[str]) -> list[str]:
        """The line for each command, one token at a time."""
        end = self._tokenizer.token_to_id(tokens.END)
        lines = []
        for command in commands:
            ids = self._tokenizer.encode(tokens.prompt(command)).ids
            begin = len(ids)
            while len(ids) < begin + ANSWER_TOKENS:
                hidden = self._model.hidden(torch.tensor([ids], device=self._device))
                chosen = int(self._model.logits(hidden[0, -1]).argmax())
                if chosen == end:
                    break
                ids.append(chosen)
            lines.append(self._tokenizer.decode(ids[begin:]))
        return lines


def sets(names: Sequence[str], total: int) -> dict[str, list[Case]]:
    """The sets to score: unseen templates clean and spoiled, then each hand-written one."""
    found = {
        "validation templates": unseen_templates(total, fold="validation", noisy=False),
        "test templates": unseen_templates(total, fold="test", noisy=False),
        "test, spoiled": unseen_templates(total, fold="test", noisy=True),
    }
    return found | {f"free-hand {name}": free_hand(name) for name in names}


def sample_wrong(result: Score, limit: int) -> list[tuple[str, str, str]]:
    """Up to `limit` wrong answers, the same ones every time."""
    return random.Random(0).sample(list(result.wrong), min(limit, len(result.wrong)))
