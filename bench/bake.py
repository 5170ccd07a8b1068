"""What a first start costs, and who pays for it: without a bake, and with one.

    python -m bench.bake --model DIR --engine-python VENV/bin/python [--graphs] [--only with] …

Two daemons, each with caches of its own that are empty (so --cache is ignored). The first
bakes nothing: its first caller waits for the first start, and its second one may meet the
first sleep. The other one bakes; then it is asked. In the end it is started anew over the
same caches, and asked once more. `first_s`: from the question to the first piece of the answer.
Prints a line of JSON for each, and one for the whole.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.daemon import Running, add_engine_options, daemon
from bench.rig import machine, report

QUESTION = "How long does green tea steep?"


def asked(made: Running) -> float:
    return round(made.ask(QUESTION, 8)["first_s"], 2)


def turn(made: Running) -> dict[str, float]:
    """A question to an engine at rest, and back to rest."""
    return {"first_s": asked(made), "rest_s": round(made.rest(), 2)}


def without(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    with daemon(folder, options) as made:
        return {"asked": [turn(made) for _ in range(3)], "wakes": wakes(made)}


def baked(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    with daemon(folder, options, bake=True) as made:
        steps = made.bake()
        rest_s = round(made.rest(), 2)
        told = {"steps": steps, "rest_s": rest_s, "asked": [turn(made) for _ in range(3)]}
        told["wakes"] = wakes(made)
    with daemon(folder, options, bake=True) as made:
        again = made.bake()
        return told | {"next_daemon": {"steps": again, **turn(made)}}


def wakes(made: Running) -> list[dict[str, Any]]:
    return made.rows("SELECT from_depth, cause, wake_s, wake_j FROM wakes ORDER BY at")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_options(parser)
    parser.add_argument("--only", choices=("without", "with"))
    options = parser.parse_args()
    whole: dict[str, Any] = {"bench": "bake", **machine()}
    for name, measure in (("without", without), ("with", baked)):
        if options.only in {None, name}:
            with tempfile.TemporaryDirectory(prefix="wn-") as folder:
                options.cache = f"{folder}/cache"
                whole[name] = measure(Path(folder), options)
            report({name: whole[name]})
    report(whole)


if __name__ == "__main__":
    main()
