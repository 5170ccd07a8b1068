"""Trains the model: AdamW, a warm-up, a plateau and a linear decay."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tools.demo_model import corpus
from tools.demo_model.model import Llama, Shape


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    steps          optimizer steps
    batch          rows of the longest length per step; shorter rows come in larger batches
    prompt_weight  how much predicting the command counts, against predicting the answer
    """

    seed: int = 10
    steps: int = 4500
    batch: int = 512
    lr: float = 1.5e-3
    warm_up: int = 300
    weight_decay: float = 0.05
    dropout: float = 0.2
    prompt_weight: float = 0.5
    workers: int = 2


def train(
    recipe: Recipe, tokenizer: Path, shape: Shape, device: str, log: Callable[[str], None]
) -> Llama:
    """Train from scratch and return the model, on `device`, in evaluation mode.

    Data and their order depend on the seed alone; weights may differ in the last bits between
    devices, since sums are taken in another order there.
    """
    torch.manual_seed(recipe.seed)
    model = Llama(shape, recipe.dropout).to(device).train()
    log(
        json.dumps(
            {"recipe": asdict(recipe), "parameters": sum(p.numel() for p in model.parameters())}
        )
    )
    decayed = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, recipe.lr, (0.9, 0.98), weight_decay=recipe.weight_decay, fused=device != "cpu"
    )
    batches = corpus.stream(recipe.seed, tokenizer, recipe.batch, recipe.workers)
    begun_s = time.monotonic()
    samples = 0
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * rate(step, recipe)
        ids, begins = next(batches)
        samples += len(ids)
        answer_loss, loss = losses(model, ids, begins, recipe.prompt_weight, device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0 or step == recipe.steps - 1:
            elapsed_s = time.monotonic() - begun_s
            log(f"{step:6d} answer {answer_loss.item():.5f} samples {samples} {elapsed_s:.0f} s")
    return model.eval()


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate's share at `step`: up over the warm-up, flat, then down to zero."""
    left = (recipe.steps - step) / (recipe.steps * 0.6)
    return min(1.0, (step + 1) / recipe.warm_up, left)


def losses(
    model: Llama, rows: object, begins: object, prompt_weight: float, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross entropy of the answers' tokens, and the weighted sum that is trained on.

    rows: ids (batch, length), padded with 0; begins: (batch,), index of each answer's start.
    """
    ids = torch.as_tensor(rows).to(device, non_blocking=True)
    begin = torch.as_tensor(begins).to(device, non_blocking=True)
    target = ids[:, 1:]
    at = torch.arange(1, ids.shape[1], device=device)
    real = target != 0
    in_answer = real & (at >= begin[:, None])
    # On a CPU without AMX bfloat16 products are slower than float32 ones.
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        hidden = model.hidden(ids[:, :-1])
        each = functional.cross_entropy(
            model.logits(hidden).float().flatten(0, 1), target.flatten(), reduction="none"
        )
    each = each.view(target.shape)
    answer = (each * in_answer).sum() / in_answer.sum()
    prompt = (each * (real & ~in_answer)).sum() / (real & ~in_answer).sum()
    return answer, answer + prompt_weight * prompt
