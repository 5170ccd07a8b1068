"""A real engine's starts, plain and from a warm host, in turns on the same model.

    python -m bench.warm_host --python VENV/bin/python --model FOLDER --turns 5

In each turn: a plain start; a start that has to have a host first; one more from that
host. Prints one line of JSON: medians and all values, in seconds from the order until
the engine answers, memory, and whether all of them said the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.sleep import answer
from drivers.vllm import VllmEngine
from drivers.vllm_order import versions
from drivers.vllm_settings import Settings

TOKENS = 32  # of an answer (bench.sleep)


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
            print(json.dumps(await compare(plain, warm, options.turns, options.python)))
        finally:
            await plain.dismiss()
            await warm.dismiss()


async def compare(plain: VllmEngine, warm: VllmEngine, turns: int, python: Path) -> dict[str, Any]:
    began_s = time.perf_counter()
    _, _, expected, _ = await start(plain)  # fills the caches, and is not counted
    seconds: dict[str, list[float]] = {"plain": [], "with_a_new_host": [], "warm": []}
    tokens_per_s: dict[str, list[float]] = {name: [] for name in seconds}
    held: dict[str, dict[str, int]] = {}
    same = True
    for _ in range(turns):
        await warm.dismiss()
        for name, engine in (("plain", plain), ("with_a_new_host", warm), ("warm", warm)):
            ready_s, held[name], said, speed = await start(engine)
            seconds[name].append(round(ready_s, 2))
            tokens_per_s[name].append(round(speed))
            same = same and said == expected
        held["host_at_rest"] = memory()
    medians = {name: round(median(values), 2) for name, values in seconds.items()}
    return {
        "bench": "warm_host",
        "vllm": (await versions.find(python.absolute())).version,
        "turns": turns,
        "median_s": medians,
        "ratio": round(medians["warm"] / medians["plain"], 3),
        "ratio_with_a_new_host": round(medians["with_a_new_host"] / medians["plain"], 3),
        "all_s": seconds,
        "tokens_per_s": {name: median(values) for name, values in tokens_per_s.items()},
        "same_answers": same,
        "lacks": warm.lacks.get("host", ""),
        "memory": held,
        "cpus": os.cpu_count(),
        "load_1m": os.getloadavg()[0],
        "took_s": round(time.perf_counter() - began_s),
    }


async def start(engine: VllmEngine) -> tuple[float, dict[str, int], Any, float]:
    """Start, ask and stop it.

    Returns seconds to readiness, memory when it served, what it said, tokens per second.
    """
    began_s = time.perf_counter()
    await engine.start()
    ready_s = time.perf_counter() - began_s
    said, _ = await answer(engine)
    took_s = median([(await answer(engine))[1] for _ in range(9)])
    held = memory()
    await engine.stop()
    return ready_s, held, said, TOKENS / took_s


def memory() -> dict[str, int]:
    """What our children hold, in MiB; a page that they share counts once in pss."""
    held = [child.memory_full_info() for child in psutil.Process().children(recursive=True)]
    return {
        "rss_mib": sum(each.rss for each in held) >> 20,
        "pss_mib": sum(each.pss for each in held) >> 20,
        "own_mib": sum(each.uss for each in held) >> 20,
    }


if __name__ == "__main__":
    asyncio.run(main())
