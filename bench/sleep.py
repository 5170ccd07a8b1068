"""A real engine asleep and awake: how long each takes, and whether it says the same afterwards.

    python -m bench.sleep --python VENV/bin/python --model FOLDER --level 2 --cycles 5 [--park]

Prints one line of JSON for the start and for each cycle: seconds, what the engine said
of its memory and of where the weights came from, and what a checkpoint's steps took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from drivers.power_client import find_checkpointer
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings

CHAT = "/v1/chat/completions"
TELLERS = (STATE, STEPS) = ("drivers.vllm_rest", "drivers.checkpointer")


class Ear(logging.Handler):
    """Keeps the last that was told: of the engine's state, and of a checkpoint's steps."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, object] = {}
        for name in TELLERS:
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple):
            self.told[record.name] = record.args[1]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="that has vLLM")
    parser.add_argument("--model", required=True)
    parser.add_argument("--cache", type=Path, help="kept; else a new one that is removed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--level", type=int, choices=(1, 2), default=2)
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--park", action="store_true", help="off the GPU, too")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--kv-mib", type=int, default=0, help="0: the engine measures")
    parser.add_argument("--verbose", action="store_true", help="all that the engine prints")
    options, args = parser.parse_known_args()
    ear = Ear()
    if options.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = VllmEngine(
            python=options.python,
            model=options.model,
            served_name="main",
            runtime_dir=Path(place) / "run",
            cache_dir=options.cache or Path(place) / "cache",
            device=options.device,
            args=tuple(args),
            settings=Settings(
                kv_cache_bytes=options.kv_mib << 20 or None, enforce_eager=options.eager
            ),
            sleep_level=options.level,
            checkpointer=find_checkpointer() if options.park else None,
        )
        try:
            await cycles(engine, options.cycles, ear, park=options.park)
        finally:
            await engine.stop()
            await engine.dismiss()


async def cycles(engine: VllmEngine, count: int, ear: Ear, *, park: bool) -> None:
    began_s = time.perf_counter()
    facts = await engine.start()
    ready_s = time.perf_counter() - began_s
    expected, _ = await answer(engine)
    expected, answer_s = await answer(engine)
    tell("start", version=facts.version, start_s=ready_s, answer_s=answer_s, lacks=engine.lacks)
    for cycle in range(count):
        began_s = time.perf_counter()
        await engine.sleep()
        slept_s, asleep = time.perf_counter(), ear.told.get(STATE)
        if park:
            await engine.park()
        parked_s, park_steps = time.perf_counter(), ear.told.get(STEPS)
        await asyncio.sleep(1)
        waking_s = time.perf_counter()
        await engine.wake()
        awake_s = time.perf_counter()
        said, answer_s = await answer(engine)
        tell(
            "cycle",
            cycle=cycle,
            sleep_s=slept_s - began_s,
            park_s=parked_s - slept_s,
            park_steps_s=park_steps,
            unpark_steps_s=ear.told.get(STEPS),
            wake_s=awake_s - waking_s,
            answer_s=answer_s,
            same=said == expected,
            asleep=asleep,
            awake=ear.told.get(STATE),
        )


async def answer(engine: VllmEngine) -> tuple[Any, float]:
    """32 greedy tokens, and the seconds that they took."""
    body = {
        "messages": [{"role": "user", "content": "Count the waves."}],
        "max_tokens": 32,
        "temperature": 0,
        "ignore_eos": True,
    }
    began_s = time.perf_counter()
    async with engine.request(CHAT, json.dumps(body).encode(), stream=False) as reply:
        said = b"".join([chunk async for chunk in reply.chunks])
    return json.loads(said)["choices"][0]["message"]["content"], time.perf_counter() - began_s


def tell(what: str, **told: Any) -> None:
    rounded = {name: round(v, 3) if isinstance(v, float) else v for name, v in told.items()}
    print(json.dumps({"bench": "sleep", "what": what, **rounded}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
