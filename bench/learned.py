"""Whether `learned` keeps its bars: on traces that are named, and on many that are made up.

    python -m bench.learned [--traces DIR] [--seeds N] [--first-seed N] [--each]

Two rungs with a break-even time of 180 s, a waiting person worth 0, 100 and 1 000 W. For
each trace the costs of `learned`, `breakeven` and `best_fixed` as multiples of the
clairvoyant's. Prints a line of JSON for each trace that is named (or for each: `--each`), one
for each kind of trace, and one for the whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from appliance.power import visits
from bench.arrivals import HELD_OUT, KINDS, made
from bench.rig import machine, report
from policies.breakeven import Breakeven
from policies.ladder import Depth, Ladder, Policy, Rung
from policies.learned import Learned
from policies.replay import Trace, best_fixed, foreseen_j, replay

LAMBDAS_W = (0.0, 100.0, 1000.0)
COUNTS = (80, 250, 1000)
LONG = 200
WORST = {True: 1.02, False: 1.05}  # x breakeven, by whether it has LONG idle periods


class Ratios(NamedTuple):
    """Costs as multiples of the clairvoyant's."""

    trace: str
    gaps: int
    learned: float
    breakeven: float
    best_fixed: float

    @property
    def worse(self) -> float:
        """Than breakeven: what a bar is set for."""
        return self.learned / self.breakeven

    @property
    def over(self) -> float:
        """By how much it is over that bar; negative: kept."""
        return self.worse - WORST[self.gaps >= LONG]


def ladder(power_w: float, wake_s: float) -> Ladder:
    """AWAKE and OFF, break-even after 180 s but for what waiting is worth."""
    off = Rung(depth=Depth.OFF, power_w=0.0, wake_s=wake_s, wake_j=180.0 * power_w)
    return (Rung(depth=Depth.AWAKE, power_w=power_w), off)


def ratios(trace: Trace, rungs: Ladder, lambda_w: float) -> Ratios:
    least_j = foreseen_j(rungs, trace, lambda_w)

    def ratio(policy: Policy) -> float:
        return replay(policy, rungs, trace, lambda_w).cost_j / least_j

    best = best_fixed(rungs, trace, lambda_w)
    return Ratios(trace.name, len(trace), ratio(Learned()), ratio(Breakeven()), ratio(best))


def told(rows: Sequence[Ratios]) -> dict[str, Any]:  # JSON
    """Medians, and the worst of those with a bar each."""
    middle = {
        name: round(median(getattr(row, name) for row in rows), 4)
        for name in ("learned", "breakeven", "best_fixed")
    }
    worst = {}
    for name, some in (
        ("long", [row for row in rows if row.gaps >= LONG]),
        ("short", [row for row in rows if row.gaps < LONG]),
    ):
        if some:
            most = max(some, key=lambda row: row.worse)
            worst[f"{name}_worst_of_breakeven"] = round(most.worse, 4)
            worst[f"{name}_worst"] = most.trace
            worst[f"{name}_traces"] = len(some)
            worst[f"{name}_over"] = sum(row.over > 0 for row in some)
    return {**middle, "of_best_fixed": round(middle["learned"] / middle["best_fixed"], 4), **worst}


def made_up(seeds: range) -> Iterator[tuple[str, Trace]]:
    for kind in (*KINDS, *HELD_OUT):
        for seed in seeds:
            for count in COUNTS:
                yield kind, made(kind, seed, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder; without it, those that are shipped")
    parser.add_argument(
        "--seeds", type=int, default=3, help="made-up traces of each kind and length"
    )
    parser.add_argument("--first-seed", type=int, default=200)
    parser.add_argument("--power-w", type=float, default=40.0)
    parser.add_argument("--wake-s", type=float, default=10.0)
    parser.add_argument("--each", action="store_true", help="a line for each trace")
    options = parser.parse_args()
    paths = sorted(options.traces.glob("*.csv")) if options.traces else visits.shipped()
    named = [("real", visits.read(path, path.stem)) for path in paths]
    rungs = ladder(options.power_w, options.wake_s)
    whole: dict[str, Any] = {"bench": "learned", "machine": machine(), "seeds": options.seeds}
    whole["first_seed"] = options.first_seed
    whole |= {"power_w": options.power_w, "wake_s": options.wake_s}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    traces = [*named, *made_up(seeds)]
    for lambda_w in LAMBDAS_W:
        by_kind: dict[str, list[Ratios]] = {}
        for kind, trace in traces:
            if len(trace):
                by_kind.setdefault(kind, []).append(ratios(trace, rungs, lambda_w))
        for kind, rows in by_kind.items():
            if options.each or kind == "real":
                for row in rows:
                    report({"lambda_w": lambda_w, "kind": kind, **row._asdict()})
            report({"lambda_w": lambda_w, "kind": kind, **told(rows)})
        whole[f"real_{lambda_w:g}"] = told(by_kind.pop("real"))
        for name, kinds in (("made_up", KINDS), ("held_out", HELD_OUT)):
            found = [row for kind in kinds for row in by_kind[kind]]
            whole[f"{name}_{lambda_w:g}"] = told(found)
    report(whole)


if __name__ == "__main__":
    main()
