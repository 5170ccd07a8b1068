"""Where the seconds of a start, or of a wake, go: an engine's stacks, looked at every 8 ms.

    python -m bench.sampled --model DIR --engine-python PATH --depth stopped --turns 3 …

Prints a line of JSON for each turn's time, and one for each of the engine's processes: seconds
below each function, but for those that only call another, and below each place that imports.
Looking costs some of the time: for how long something takes, ask bench.ladder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.daemon import Running, add_engine_options, daemon
from bench.ladder import Ladder, below
from bench.rig import report

SAMPLER = Path(__file__).parent / "sampler"
IMPORTS = "importlib._bootstrap"
LEAST_S = 0.02
AT_MOST_S = 1.0
"""One look may stand for: longer ago it was switched off."""
SAME = 0.98
"""So much of a function's time in one that it calls, and it only calls that."""


def looks(lines: str) -> Iterator[tuple[float, list[str]]]:
    """Seconds since the look before, and the frames, innermost first."""
    told = [line.partition(" ") for line in lines.splitlines() if " " in line]
    for before, now in pairwise(told):
        took_s = float(now[0]) - float(before[0])
        if took_s < AT_MOST_S:
            yield took_s, now[2].split(";")


def summed(lines: str) -> dict[str, Any]:
    """Of one process."""
    inside: dict[str, float] = defaultdict(float)
    calls: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    importing: dict[str, float] = defaultdict(float)
    whole_s = 0.0
    for took_s, frames in looks(lines):
        whole_s += took_s
        for frame in set(frames):
            inside[frame] += took_s
        for callee, caller in set(pairwise(frames)):
            calls[caller][callee] += took_s
        outermost = max((n for n, f in enumerate(frames) if IMPORTS in f), default=None)
        if outermost is not None and outermost + 1 < len(frames):
            importing[frames[outermost + 1]] += took_s
    own = {
        frame: seconds
        for frame, seconds in inside.items()
        if max(calls[frame].values(), default=0.0) < SAME * seconds
    }
    return {"s": round(whole_s, 2), "below": most(own), "importing": most(importing)}


def most(seconds: dict[str, float]) -> dict[str, float]:
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: round(s, 3) for name, s in ordered if s >= LEAST_S}


def names(made: Running) -> dict[int, str]:
    return {process.pid: " ".join(process.cmdline())[:40] for process in below(made)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_engine_options(parser)
    parser.add_argument("--depth", default="stopped")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sampled"))
    options.engine_env += [f"WATCHED_FORKS={place}", f"PYTHONPATH={SAMPLER}"]
    known: dict[int, str] = {}
    with daemon(place / "daemon", options) as made:
        ladder = Ladder(made, options)
        ladder.first()
        for _ in range(options.turns):
            made.rest(options.depth)
            (place / "on").touch()
            report({"bench": "sampled", "depth": options.depth, "first_token_s": ladder.first()})
            (place / "on").unlink()
            known |= names(made)
    for file in sorted(place.iterdir()):
        if file.name.isdecimal() and (told := summed(file.read_text()))["s"] >= LEAST_S:
            report({"process": known.get(int(file.name), "gone"), "pid": int(file.name), **told})


if __name__ == "__main__":
    main()
