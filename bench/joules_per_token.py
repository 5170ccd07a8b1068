"""Joules per token of a 64-stream run, as the ledger has them and as a counter of our own saw them.

    python -m bench.joules_per_token --engine-python PATH --model DIR --graphs

A daemon wakes its engine and is left idle, so that it learns the floor. Then so many callers
ask again and again, for a minute. Beside it the device's counter is read by ourselves at both
ends of that: NVML's, or without a GPU the estimate from CPU time. The ledger's joules per token
are those of the run's requests, and the floor below them, divided by their tokens. Last, all
that its lines hold is compared with all that the counter counted. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.daemon import Running, add_engine_options, daemon
from bench.rig import machine, report
from drivers.cpu_time import CpuTimeMeter
from drivers.nvml import NvmlMeter
from drivers.probe import nvidia_gpus
from drivers.protocols import Meter, Sample

BOUND = 0.05
FLOOR_S = 30.0
"""Idle before the run: the daemon knows the floor some 22 s after anything else."""
SETTLE_S = 15.0
"""And after it: the device's tail is none of the run's."""
PATIENCE_S = 30.0
WORDS = "the cat sat on a mat and saw its house run far down the long street of our old town "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_options(parser)
    parser.set_defaults(max_running=64, kv_mib=8192)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="nobody asks again after that")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    options = parser.parse_args()
    gpus = nvidia_gpus()
    meter: Meter = NvmlMeter(address=gpus[0].address) if gpus else CpuTimeMeter()
    meter.open()
    folder = Path(tempfile.mkdtemp(prefix="joules"))
    with daemon(folder, options) as made:
        begun = meter.sample()
        made.ask("wake up", 8)
        time.sleep(FLOOR_S)
        known = len(made.rows("SELECT 1 FROM requests"))
        first = meter.sample()
        asked = run(made, options)
        last = meter.sample()
        time.sleep(SETTLE_S)
        made.rest()
        wait_until_final(made, known + asked)
        requests = made.rows("SELECT * FROM requests ORDER BY started_at")[known:]
        floors = made.rows("SELECT value FROM learned WHERE name = 'floor_w' AND of = 'awake'")
        log = made.log()[-10:]
    ended = meter.sample()
    lines = made.rows("SELECT line, depth, seconds, energy_j, unmeasured_s FROM energy_by_depth")
    meter.close()
    result = {"meter": meter.name, "streams": options.streams, "requests": asked}
    result |= compared(requests, [row["value"] for row in floors], first, last)
    lines_j = sum(row["energy_j"] or 0.0 for row in lines)
    result["lines_over_counter"] = round(lines_j / (ended.energy_j - begun.energy_j), 4)
    result |= {"lines": lines, "log": log}
    report({"bench": "joules_per_token", "machine": machine()} | result)


def run(made: Running, options: argparse.Namespace) -> int:
    """All streams at once, each asking anew when it is answered. How many requests that were."""
    until_s = time.monotonic() + options.seconds

    def stream(number: int) -> int:
        asked = 0
        while not asked or time.monotonic() < until_s:
            # No two prompts begin alike: none is answered from the cache.
            made.ask(f"{number} {asked} {WORDS * 10}", options.tokens)
            asked += 1
        return asked

    with ThreadPoolExecutor(options.streams) as streams:
        return sum(streams.map(stream, range(options.streams)))


def wait_until_final(made: Running, count: int) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while len(made.rows("SELECT 1 FROM requests WHERE final")) < count:
        if time.monotonic() > until_s:
            raise RuntimeError("the requests of a period that is over are not final")
        time.sleep(0.1)


def compared(
    requests: list[dict[str, Any]], floors_w: list[float], first: Sample, last: Sample
) -> dict[str, Any]:
    """Joules per token: the counter's, and of them what the ledger has found."""
    tokens = sum(row["completion_tokens"] for row in requests)
    seconds, counted_j = last.at_s - first.at_s, last.energy_j - first.energy_j
    marginal_j = sum(row["marginal_j"] or 0.0 for row in requests)
    floor_w = floors_w[0] if floors_w else 0.0
    ratio = (marginal_j + floor_w * seconds) / counted_j
    return {
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 1),
        "mean_w": round(counted_j / seconds, 2),
        "floor_w": round(floor_w, 2),
        "counter_j_per_token": round(counted_j / tokens, 5),
        "ledger_j_per_token": round((marginal_j + floor_w * seconds) / tokens, 5),
        "marginal_j_per_token": round(marginal_j / tokens, 5),
        "ratio": round(ratio, 4),
        "bound": BOUND,
        "within": abs(ratio - 1) <= BOUND,
        "good": sum(row["quality"] == "good" for row in requests),
    }


if __name__ == "__main__":
    main()
