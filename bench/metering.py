"""What counting joules costs the daemon under load: its CPU time with a meter and without.

    python -m bench.metering
    python -m bench.metering --meter nvml        # where there is one

Two daemons, each with a pretended engine of its own, get the same load by turns: all the
streams at once, paced. Compared is what each used in its rounds, threads included; that
which is at rest meanwhile is not counted. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from bench.live import Through, throughput
from bench.rig import Rig, machine, report, rig

SETTLE_S = 2.0
BUDGET = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meter", default="cpu_time")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--pace", type=float, default=312 / 64, help="tokens per second and stream")
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--waves", type=int, default=3, help="of all streams, in one round")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        shares = runner.run(measured(options))
    costs = [with_it - without for with_it, without in zip(*shares.values(), strict=True)]
    result = {
        "meter": options.meter,
        "streams": options.streams,
        "requests_per_s": round(options.streams * options.pace / options.tokens, 1),
        "share_of_a_core": {name: [round(s, 5) for s in found] for name, found in shares.items()},
        "cost": round(statistics.mean(costs), 5),
        "standard_error": round(statistics.stdev(costs) / math.sqrt(len(costs)), 5),
        "budget": BUDGET,
    }
    report({"bench": "metering", "machine": machine()} | result)


async def measured(options: argparse.Namespace) -> dict[str, list[float]]:
    """By meter, "none" the second: the share of a core that each round took."""
    shares: dict[str, list[float]] = {}
    folder = Path(tempfile.mkdtemp(prefix="metering"))
    with contextlib.ExitStack() as stack:
        made = {}
        for meter in (options.meter, "none"):
            switches = ("--tokens-per-s", str(options.pace))
            each = stack.enter_context(rig(folder / meter, meter=meter, switches=switches))
            each.start_daemon()
            made[meter] = each, Through(each)
            shares[meter] = []
            # Every path has been used once.
            await throughput(made[meter][1].ask, options.streams, 5)
        for turn in range(options.rounds):
            # Each is first as often as second.
            for meter in sorted(made, reverse=bool(turn % 2)):
                await asyncio.sleep(SETTLE_S)
                shares[meter].append(await a_round(*made[meter], options))
        for each, through in made.values():
            through.close()
            each.stop_daemon()
    return shares


async def a_round(made: Rig, through: Through, options: argparse.Namespace) -> float:
    began_s, used_s = time.monotonic(), cpu_s(made)
    for _ in range(options.waves):
        await throughput(through.ask, options.streams, options.tokens)
    return (cpu_s(made) - used_s) / (time.monotonic() - began_s)


def cpu_s(made: Rig) -> float:
    """Of the daemon's process with all its threads; to the nanosecond, unlike its ticks."""
    assert made.daemon is not None
    tasks = Path(f"/proc/{made.daemon.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    main()
