"""What deferring saves: traces replayed through the daemon's own parts, with and without it.

    python -m bench.defer --traces DIR [--share 0.2] [--slack 86400] [--only NAME] …

Everything is real but engine, meter and clock (tests.benches); a request takes what its trace
says. A fifth of all requests are of class batch with a day of slack: `added` to the trace, at
times that have nothing to do with people, as reports and sensors have; or `taken` from it, any
fifth of it. For each: wakes if batch requests wake the engine as others do, wakes if they are
deferred, wakes if only people's requests came (whoever defers cannot wake less), deadlines
missed, and how long people and batch requests waited for their answers.
Prints a line of JSON for each trace and kind, and one for the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.config import Defer
from appliance.storage.reading import reading
from bench.rig import machine, report
from tests.benches import bench, configured

WAKE_S = 30.0
UNKNOWN_SERVICE_S = 5.0
WORD_S = 0.5


class Arrival(NamedTuple):
    at_s: float
    service_s: float
    batch: bool


def read(path: Path) -> list[Arrival]:
    """People's requests only; each takes UNKNOWN_SERVICE_S where the trace does not know."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Arrival(float(r["t_s"]), float(r["service_s"] or UNKNOWN_SERVICE_S), batch=False)
        for r in rows
    ]


def with_added(trace: list[Arrival], share: float, dice: random.Random) -> list[Arrival]:
    """So many more, anywhere in its time, that `share` of all are batch."""
    count = round(len(trace) * share / (1 - share))
    end_s = trace[-1].at_s
    more = [
        Arrival(dice.uniform(0, end_s), dice.choice(trace).service_s, batch=True)
        for _ in range(count)
    ]
    return sorted([*trace, *more])


def with_taken(trace: list[Arrival], share: float, dice: random.Random) -> list[Arrival]:
    """Any `share` of its own."""
    batch = set(dice.sample(range(len(trace)), round(len(trace) * share)))
    return [arrival._replace(batch=n in batch) for n, arrival in enumerate(trace)]


KINDS = {"added": with_added, "taken": with_taken}


async def replay(arrivals: list[Arrival], options: argparse.Namespace, *, defer: bool) -> Any:
    """Through a daemon of its own; what its ledger says in the end."""
    with tempfile.TemporaryDirectory(prefix="wn-", dir=options.folder) as place:
        config = msgspec.structs.replace(
            configured(Path(place), idle_timeout_s=options.idle_timeout),
            defer=Defer(max_wait_s=options.slack if defer else 0, count=options.count),
        )
        async with bench(Path(place), config=config, start_s=WAKE_S) as b:
            b.engine.token_s = WORD_S
            for arrival in arrivals:
                await b.clock.advance(max(0.0, arrival.at_s - b.clock.now()))
                words = " ".join(["word"] * max(1, round(arrival.service_s / WORD_S)))
                extra = {"class": "batch", "deadline_s": options.slack} if arrival.batch else {}
                await b.send({"prompt": words, "wattnap": extra})
            await b.clock.advance(options.slack + 3600)
        with reading(config.database) as db:
            (found,) = db.query(
                "SELECT (SELECT count(*) FROM wakes) AS wakes,"
                " (SELECT count(*) FROM requests WHERE state != 'done') AS failed,"
                " (SELECT count(*) FROM requests WHERE class = 'batch'"
                f" AND total_s > {options.slack}) AS late,"
                " (SELECT avg(total_s) FROM requests WHERE class = 'batch') AS batch_s,"
                " (SELECT avg(ttft_s) FROM requests WHERE class != 'batch') AS people_s"
            )
            return {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}


def fewer(before: Any, after: Any) -> float:
    return round(1 - float(after["wakes"]) / float(before["wakes"]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--only", default="", help="traces whose names contain this")
    parser.add_argument("--kinds", default="added,taken")
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--slack", type=float, default=86400.0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--idle-timeout", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default="/dev/shm", help="for databases; need not be a disk")
    options = parser.parse_args()
    results = []
    for path in sorted(options.traces.glob("*.csv")):
        if options.only not in path.name or "t_s" not in path.read_text().split("\n", 1)[0]:
            continue
        trace = read(path)
        for kind in options.kinds.split(","):
            arrivals = KINDS[kind](trace, options.share, random.Random(options.seed))
            never = asyncio.run(replay(arrivals, options, defer=False))
            with_it = asyncio.run(replay(arrivals, options, defer=True))
            people = [arrival for arrival in arrivals if not arrival.batch]
            alone = asyncio.run(replay(people, options, defer=False))
            result = {
                "trace": path.stem,
                "kind": kind,
                "requests": len(arrivals),
                "batch": sum(arrival.batch for arrival in arrivals),
                "without": never,
                "deferred": with_it,
                "people_alone": alone,
                "fewer_wakes": fewer(never, with_it),
                "fewer_at_most": fewer(never, alone),
            }
            results.append(result)
            report(result)
    whole: dict[str, Any] = {"bench": "defer", "machine": machine(), **vars(options)}
    whole |= {"traces": str(options.traces), "late": sum(r["deferred"]["late"] for r in results)}
    whole["failed"] = sum(r["deferred"]["failed"] for r in results)
    for kind in options.kinds.split(","):
        for name in ("fewer_wakes", "fewer_at_most"):
            if shares := [r[name] for r in results if r["kind"] == kind]:
                whole[f"{kind}_{name}"] = {
                    "least": min(shares),
                    "median": round(statistics.median(shares), 3),
                    "most": max(shares),
                }
    report(whole)


if __name__ == "__main__":
    main()
