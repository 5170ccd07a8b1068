"""What a setting for speed costs and brings: tokens a second and joules per token, on a GPU.

    python -m bench.speed --python VENV/bin/python --model FOLDER [--only plain,fp8 …]

One engine after the other, each with one setting, or one variable, that "plain" does not
have. Joules are NVML's energy counter, idle power included. Each is asked the same,
greedily: one stream; 64 at once; and a long beginning that 8 prompts share, one after the
other. Prompts are of tokens, not of words, so that models with other tokenizers read as
much. Prints a line of JSON for each engine, and one for the whole, in which each figure is
over plain's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.rig import machine, report
from drivers.nvml import NvmlMeter
from drivers.protocols import Engine
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings

PLAIN = Settings(
    max_num_seqs=64,
    prefix_caching=False,
    compile=False,
    load_format="fastest",
    cudagraph_capture_sizes="few",
)
FP8 = replace(PLAIN, quantization="fp8")
KINDS = {
    "plain": PLAIN,
    "compiled": replace(PLAIN, compile=True),
    "fp8": FP8,
    "fp8_compiled": replace(FP8, compile=True),
    "ngram": replace(PLAIN, speculative_ngram_tokens=4),
    "priority": replace(PLAIN, priority_scheduling=True),
    "prefix": replace(PLAIN, prefix_caching=True),
    "eight_queues": PLAIN,
}
ENVIRONMENTS = {"eight_queues": {"CUDA_DEVICE_MAX_CONNECTIONS": "8"}}
"""Further variables, by kind: 8 work queues are the driver's own choice, 2 are ours (0035)."""
PROMPT_TOKENS = 256
TOKEN_IDS = range(64, 256)
"""Bytes or short pieces of words in any vocabulary, and nothing special."""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="that has vLLM")
    parser.add_argument("--model", required=True)
    parser.add_argument("--cache", type=Path, help="kept; else a new one that is removed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kv-mib", type=int, default=8192)
    parser.add_argument("--beginning", type=int, default=1024, help="tokens that prompts share")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--only", default=",".join(KINDS))
    options, args = parser.parse_known_args()
    meter = NvmlMeter() if options.device == "cuda" else None
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        for kind in options.only.split(","):
            engine = VllmEngine(
                python=options.python,
                model=options.model,
                served_name="main",
                runtime_dir=Path(place) / "run",
                cache_dir=options.cache or Path(place) / "cache",
                device=options.device,
                args=tuple(args),
                env=ENVIRONMENTS.get(kind, {}),
                settings=replace(KINDS[kind], kv_cache_bytes=options.kv_mib << 20),
            )
            try:
                told[kind] = await measure(engine, meter, options)
            except Exception as error:  # noqa: BLE001 - the others are still worth having
                told[kind] = {"error": repr(error)}
            finally:
                await engine.dismiss()
            report({"bench": "speed", "kind": kind, **told[kind]})
    plain = told.get("plain", {})
    report(
        {
            "bench": "speed",
            "machine": machine(),
            "over_plain": {
                kind: {
                    name: round(value / plain[name], 3)
                    for name, value in figures.items()
                    if name != "start_s" and plain.get(name)
                }
                for kind, figures in told.items()
                if "error" not in figures and kind != "plain"
            },
        }
    )


async def measure(
    engine: Engine, meter: NvmlMeter | None, options: argparse.Namespace
) -> dict[str, Any]:
    tokens = options.tokens
    began_s = time.perf_counter()
    await engine.start()
    told: dict[str, Any] = {"start_s": round(time.perf_counter() - began_s, 1)}
    rng = random.Random(7)  # the same for each engine
    prompts = [rng.choices(TOKEN_IDS, k=PROMPT_TOKENS) for _ in range(64)]
    await asyncio.gather(*(ask(engine, prompt, 32) for prompt in prompts))  # warm
    told |= named("one", await spent(meter, ask(engine, prompts[0], 2 * tokens)))
    told |= named("many", await spent(meter, gathered(engine, prompts, tokens)))
    beginning = rng.choices(TOKEN_IDS, k=options.beginning)
    shared = [beginning + prompt[:16] for prompt in prompts[:8]]
    told |= named("shared", await spent(meter, in_turn(engine, shared, 16)))
    return told


def named(what: str, figures: tuple[int, float, float | None]) -> dict[str, Any]:
    made, took_s, energy_j = figures
    return {
        f"{what}_tokens_per_s": round(made / took_s, 1),
        f"{what}_j_per_token": energy_j and round(energy_j / made, 4),
    }


async def spent(meter: NvmlMeter | None, work: Awaitable[int]) -> tuple[int, float, float | None]:
    """Tokens that were made, seconds, joules."""
    if meter is not None:
        meter.open()
    before = meter.sample() if meter else None
    began_s = time.perf_counter()
    made = await work
    took_s = time.perf_counter() - began_s
    energy_j = meter.sample().energy_j - before.energy_j if meter and before else None
    return made, took_s, energy_j


async def gathered(engine: Engine, prompts: list[list[int]], tokens: int) -> int:
    return sum(await asyncio.gather(*(ask(engine, prompt, tokens) for prompt in prompts)))


async def in_turn(engine: Engine, prompts: list[list[int]], tokens: int) -> int:
    return sum([await ask(engine, prompt, tokens) for prompt in prompts])


async def ask(engine: Engine, prompt: list[int], tokens: int) -> int:
    """How many tokens it answered with."""
    body = {
        "model": "main",
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with engine.request("/v1/completions", json.dumps(body).encode(), stream=False) as reply:
        said = b"".join([chunk async for chunk in reply.chunks])
    if reply.status != 200:
        raise RuntimeError(said.decode())
    made: int = json.loads(said)["usage"]["completion_tokens"]
    return made


if __name__ == "__main__":
    asyncio.run(main())
