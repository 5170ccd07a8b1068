"""Makes the model in the box: data, tokenizer, training, 8-bit checkpoint, scores.

    python tools/train_demo_model.py tokenizer WORK
    python tools/train_demo_model.py train WORK --device cuda --workers 14
    python tools/train_demo_model.py quantize WORK OUT
    python tools/train_demo_model.py score FOLDER --sets dev
    python tools/train_demo_model.py schema OUT

Needs torch, tokenizers, safetensors and numpy, none of which the daemon has.
"""

import argparse
import json
import sys
from dataclasses import fields
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.demo_model import actions, evaluate, tokens
from tools.demo_model import model as net
from tools.demo_model import quantize as bits
from tools.demo_model.grammar import Grammar
from tools.demo_model.training import Recipe, train

TOKENIZER_SAMPLES = 200_000


def fit_tokenizer(args: argparse.Namespace) -> None:
    """Write a tokenizer fitted to the training grammar into the work folder."""
    args.work.mkdir(parents=True, exist_ok=True)
    source = Grammar(args.seed)
    pairs = (source.draw() for _ in range(TOKENIZER_SAMPLES))
    tokens.save(tokens.train(islice(pairs, TOKENIZER_SAMPLES)), args.work)


def fit_model(args: argparse.Namespace) -> None:
    """Train and write the bfloat16 checkpoint and its log into the work folder."""
    given = {f.name: getattr(args, f.name) for f in fields(Recipe) if f.name in args}
    recipe = Recipe(**{k: v for k, v in given.items() if v is not None})
    path = args.work / "tokenizer.json"
    sizes = {f.name: getattr(args, f.name) for f in fields(net.Shape) if f.name in args}
    shape = net.Shape(**{k: v for k, v in sizes.items() if v is not None})
    with (args.work / "training.log").open("w", buffering=1) as file:

        def log(line: str) -> None:
            print(line, flush=True)
            file.write(line + "\n")

        net.save(train(recipe, path, shape, args.device, log), args.work)


def store_in_8_bits(args: argparse.Namespace) -> None:
    """Write the 8-bit checkpoint."""
    bits.quantize(args.work, args.out)


def show_scores(args: argparse.Namespace) -> None:
    """Print a line per set and some wrong answers; write everything as JSON if asked."""
    tokenizer = tokens.load(args.folder / "tokenizer.json")
    model = evaluate.load(args.folder, args.device)
    machine = evaluate.Machine(model, tokenizer, args.device)
    report = {}
    for name, cases in evaluate.sets(args.sets, args.total).items():
        result = evaluate.score(name, cases, machine)
        print(result)
        for command, expected, given in evaluate.sample_wrong(result, args.show):
            print(f"    {command!r}\n        wanted {expected}\n        got    {given}")
        report[name] = {
            "total": result.total,
            "right": result.total - len(result.wrong),
            "by_kind": evaluate.by_action(cases, result),
            # The final sets stay unread: their errors are counted, not written down.
            "wrong": [] if "final" in name else list(result.wrong),
        }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def write_schema(args: argparse.Namespace) -> None:
    """Write the JSON schema of an answer."""
    args.out.write_text(json.dumps(actions.schema(), indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(required=True)
    one = commands.add_parser("tokenizer")
    one.add_argument("work", type=Path)
    one.add_argument("--seed", type=int, default=7)
    one.set_defaults(run=fit_tokenizer)
    one = commands.add_parser("train")
    one.add_argument("work", type=Path)
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    for size in ("hidden", "inner", "layers", "heads", "key_heads"):
        one.add_argument(f"--{size}", type=int, help=f"default {getattr(net.Shape, size)}")
    for field in fields(Recipe):
        kind = int if isinstance(field.default, int) else float
        one.add_argument(f"--{field.name}", type=kind, help=f"default {field.default}")
    one.set_defaults(run=fit_model)
    one = commands.add_parser("quantize")
    one.add_argument("work", type=Path)
    one.add_argument("out", type=Path)
    one.set_defaults(run=store_in_8_bits)
    one = commands.add_parser("score")
    one.add_argument("folder", type=Path)
    one.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    one.add_argument("--sets", nargs="*", default=["dev"], help="hand-written sets by name")
    one.add_argument("--total", type=int, default=1500, help="commands from unseen templates")
    one.add_argument("--show", type=int, default=0, help="wrong answers to print per set")
    one.add_argument("--json", type=Path)
    one.set_defaults(run=show_scores)
    one = commands.add_parser("schema")
    one.add_argument("out", type=Path)
    one.set_defaults(run=write_schema)
    return top


if __name__ == "__main__":
    arguments = parser().parse_args()
    arguments.run(arguments)
