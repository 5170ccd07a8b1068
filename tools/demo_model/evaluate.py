"""Scores a checkpoint, by exact match of the whole answer line, in PyTorch.

The engine's own kernels are scored by serve.py; the two agree to within a few answers.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from demo_model import quantize, tokens
from demo_model.actions import Action, parse_action
from demo_model.grammar import Grammar
from demo_model.model import Llama, Shape
from demo_model.templates import DATA

ANSWER_TOKENS = 20
HELD_OUT_SEED = 20261121

Case = tuple[str, Action]
Answerer = Callable[[Sequence[str]], list[str]]


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


def unseen_templates(total: int, *, noisy: bool) -> list[Case]:
    """`total` different commands from templates that training never draws from."""
    source = Grammar(HELD_OUT_SEED, held_out=True, noisy=noisy)
    cases: dict[str, Action] = {}
    while len(cases) < total:
        sentence, action = source.draw()
        cases.setdefault(sentence, action)
    return list(cases.items())


def score(name: str, cases: Sequence[Case], answer: Answerer) -> Score:
    """Ask every case and keep what was wrong."""
    given = answer([command for command, _ in cases])
    pairs = zip(cases, given, strict=True)
    wrong = [(c, a.to_json(), line) for (c, a), line in pairs if a.to_json() != line]
    return Score(name, len(cases), wrong)


def by_action(cases: Sequence[Case], result: Score) -> dict[str, str]:
    """Right of total, by expected action and device."""
    kind_of = {command: f"{a.action} {a.device}" for command, a in cases}
    totals = Counter(kind_of.values())
    wrong = Counter(kind_of[command] for command, _, _ in result.wrong)
    return {kind: f"{n - wrong[kind]}/{n}" for kind, n in sorted(totals.items())}


def load(folder: Path, shape: Shape, device: str) -> Llama:
    """The checkpoint in `folder`, packed or not, as a float32 model in evaluation mode."""
    model = Llama(shape)
    model.load_state_dict(quantize.read(folder))
    return model.to(device).eval()


def answerer(model: Llama, tokenizer: Tokenizer, device: str, batch: int = 256) -> Answerer:
    """A function that answers commands greedily, in batches."""
    end = tokenizer.token_to_id(tokens.END)

    @torch.inference_mode()
    def answer_batch(commands: Sequence[str]) -> list[str]:
        prompts = [tokenizer.encode(tokens.prompt(command)).ids for command in commands]
        length = max(map(len, prompts)) + ANSWER_TOKENS
        ids = torch.zeros(len(prompts), length, dtype=torch.long, device=device)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt, device=device)
        at = torch.tensor([len(prompt) for prompt in prompts], device=device)
        rows = torch.arange(len(prompts), device=device)
        done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        for _ in range(ANSWER_TOKENS):
            # Causal: what stands to the right of `at` cannot be seen, so padding is harmless.
            hidden = model.hidden(ids[:, : int(at.max())])
            chosen = model.logits(hidden[rows, at - 1]).argmax(-1)
            chosen = torch.where(done, 0, chosen)
            ids[rows, at] = chosen
            done |= chosen == end
            at = torch.where(done, at, at + 1)
            if bool(done.all()):
                break
        lines = []
        for row, prompt, stop in zip(ids.tolist(), prompts, at.tolist(), strict=True):
            lines.append(tokenizer.decode(row[len(prompt) : stop], skip_special_tokens=True))
        return lines

    def answer(commands: Sequence[str]) -> list[str]:
        # Similar lengths together; padding is most of the work otherwise.
        order = sorted(range(len(commands)), key=lambda i: len(commands[i]))
        lines = [""] * len(commands)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            for i, line in zip(part, answer_batch([commands[i] for i in part]), strict=True):
                lines[i] = line
        return lines

    return answer


def sets(names: Sequence[str], total: int) -> dict[str, list[Case]]:
    """The sets to score: unseen templates clean and spoiled, then each hand-written one."""
    found = {
        "unseen templates": unseen_templates(total, noisy=False),
        "unseen, spoiled": unseen_templates(total, noisy=True),
    }
    return found | {f"free-hand {name}": free_hand(name) for name in names}


def sample_wrong(result: Score, limit: int) -> list[tuple[str, str, str]]:
    """Up to `limit` wrong answers, the same ones every time."""
    return random.Random(0).sample(list(result.wrong), min(limit, len(result.wrong)))
