"""A real engine's starts, plain and from a warm host, in turns on the same model.

    python -m bench.warm_host --python VENV/bin/python --model FOLDER --turns 5

In each turn: a plain start; a start that has to have a host first; one more from that
host. Prints one line of JSON: medians and all values, in seconds from the order until
the engine answers, the host's memory, and whether all of them said the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.sleep import answer
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="that has vLLM")
    parser.add_argument("--model", required=True)
    parser.add_argument("--cache", type=Path, help="kept; else a new one that is removed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--kv-mib", type=int, default=0, help="0: the engine measures")
    parser.add_argument("--verbose", action="store_true", help="all that engine and host print")
    options, args = parser.parse_known_args()
    if options.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(message)s")

    def engine(place: str, *, warm_host: bool) -> VllmEngine:
        return VllmEngine(
            python=options.python,
            model=options.model,
            served_name="main",
            runtime_dir=Path(place),
            cache_dir=options.cache or Path(place).parent / "cache",
            device=options.device,
            args=tuple(args),
            settings=Settings(
                kv_cache_bytes=options.kv_mib << 20 or None, enforce_eager=options.eager
            ),
            warm_host=warm_host,
        )

    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        plain = engine(f"{place}/plain", warm_host=False)
        warm = engine(f"{place}/warm", warm_host=True)
        try:
            print(json.dumps(await compare(plain, warm, options.turns)))
        finally:
            await plain.dismiss()
            await warm.dismiss()


async def compare(plain: VllmEngine, warm: VllmEngine, turns: int) -> dict[str, Any]:
    began_s = time.perf_counter()
    _, version, expected = await start(plain)  # fills the caches, and is not counted
    seconds: dict[str, list[float]] = {"plain": [], "with_a_new_host": [], "warm": []}
    same = True
    host: Mapping[str, float] = {}
    for _ in range(turns):
        await warm.dismiss()
        for name, engine in (("plain", plain), ("with_a_new_host", warm), ("warm", warm)):
            ready_s, _, said = await start(engine)
            seconds[name].append(round(ready_s, 2))
            same = same and said == expected
        host = memory_of_hosts()
    medians = {name: round(median(values), 2) for name, values in seconds.items()}
    return {
        "bench": "warm_host",
        "vllm": version,
        "turns": turns,
        "median_s": medians,
        "ratio": round(medians["warm"] / medians["plain"], 3),
        "ratio_with_a_new_host": round(medians["with_a_new_host"] / medians["plain"], 3),
        "all_s": seconds,
        "same_answers": same,
        "lacks": warm.lacks.get("host", ""),
        "host": host,
        "cpus": os.cpu_count(),
        "load_1m": os.getloadavg()[0],
        "took_s": round(time.perf_counter() - began_s),
    }


async def start(engine: VllmEngine) -> tuple[float, str, Any]:
    """Start, ask and stop it: seconds to readiness, version, what it said."""
    began_s = time.perf_counter()
    facts = await engine.start()
    ready_s = time.perf_counter() - began_s
    said, _ = await answer(engine)
    await engine.stop()
    return ready_s, facts.version, said


def memory_of_hosts() -> dict[str, float]:
    """What our children hold when no engine runs, in MiB."""
    held = [child.memory_full_info() for child in psutil.Process().children(recursive=True)]
    return {
        "rss_mib": sum(each.rss for each in held) >> 20,
        "pss_mib": sum(each.pss for each in held) >> 20,
        "own_mib": sum(each.uss for each in held) >> 20,
    }


if __name__ == "__main__":
    asyncio.run(main())
