"""What one variable, or flag, of the engine's changes: two daemons that differ in it, by turns.

    python -m bench.by_turns --model DIR --a MALLOC_ARENA_MAX=1 --b MALLOC_ARENA_MAX=128
        --depth stopped --turns 8 …
    python -m bench.by_turns --model DIR --a=--max-num-batched-tokens=8192
        --b=--max-num-batched-tokens=2048 …

A machine that others use too is slower at one minute than at the next. So both are there all
the time, at rest, and in each turn first the one goes up and down again, then the other.
`--cache DIR`: they have DIR-a and DIR-b, as an image of the weights is one engine's alone.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.daemon import Running, add_engine_options, daemon
from bench.ladder import Ladder, spread
from bench.rig import machine, report

SIDES = ("a", "b")


class Side:
    """One of the two, at rest."""

    def __init__(self, made: Running, options: argparse.Namespace) -> None:
        self._made, self._depth = made, options.depth
        self._ladder = Ladder(made, options)
        self.first_start_s = self._ladder.first()
        self.down_s = [made.rest(self._depth)]
        self.up_s: list[float] = []

    def turn(self) -> None:
        self.up_s.append(self._ladder.first())
        self.down_s.append(self._made.rest(self._depth))

    def told(self) -> dict[str, Any]:
        return {
            "first_start_s": round(self.first_start_s, 2),
            "to_first_token": spread(self.up_s),
            "down": spread(self.down_s[1:]),
            "each_to_first_token_s": [round(s, 3) for s in self.up_s],
            "different_answers": len(self._ladder.said),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_engine_options(parser)
    for name in SIDES:
        parser.add_argument(f"--{name}", required=True, metavar="NAME=VALUE|FLAG")
    parser.add_argument("--depth", default="stopped")
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="by-turns"))
    result: dict[str, Any] = {"bench": "by_turns", "machine": machine(), "depth": options.depth}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name in SIDES:
            own = argparse.Namespace(**vars(options))
            kind = "engine_arg" if getattr(options, name).startswith("-") else "engine_env"
            setattr(own, kind, [*getattr(options, kind), getattr(options, name)])
            own.cache = options.cache and f"{options.cache}-{name}"
            sides[name] = Side(stack.enter_context(daemon(folder / name, own)), own)
        for _ in range(options.turns):
            for side in sides.values():
                side.turn()
        result |= {name: {"with": getattr(options, name)} | sides[name].told() for name in SIDES}
    up_s = [statistics.median(side.up_s) for side in sides.values()]
    report(result | {"b_over_a": round(up_s[1] / up_s[0], 3)})


if __name__ == "__main__":
    main()
