"""What the daemon adds to a live request: throughput of paced streams, and latency of one.

    python -m bench.live

Both sides in one run, in turns: straight to the engine's socket, and through
the daemon's socket door or its HTTP door (`--door http`), with accounting on. The
engine is a pretender: paced for the throughput, with all the streams at once; as fast
as it can for the latency, over a connection that is kept, as the engine's is. Prints
one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.rig import Rig, machine, report, rig
from tests.brokers import free_port

Ask = Callable[[str], Awaitable[int]]


async def straight(session: aiohttp.ClientSession, base: str, prompt: str) -> int:
    """Tokens that OpenAI's API at `base` streamed for one prompt."""
    body = {
        "model": "main",
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    last = b""
    async with session.post(f"{base}/v1/chat/completions", json=body) as reply:
        async for chunk in reply.content.iter_any():
            last = last[-2000:] + chunk
    (usage,) = (e for e in last.split(b"\n\n") if b'"choices": []' in e)
    return int(json.loads(usage[6:])["usage"]["completion_tokens"])


class Through:
    """The same, asked at the socket door with streaming: a connection for each caller."""

    def __init__(self, made: Rig) -> None:
        self._socket = made.socket
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, prompt: str) -> int:
        if not self._idle:
            path = str(self._socket)
            self._idle.append(await asyncio.open_unix_connection(path, limit=1 << 20))
        reader, writer = self._idle.pop()
        request = {"prompt": prompt, "stream": True}
        writer.write(json.dumps({"op": "ask", "request": request}).encode() + b"\n")
        while True:
            line = await reader.readline()
            if line.startswith(b'{"event":"answer"'):
                self._idle.append((reader, writer))
                return int(json.loads(line)["answer"]["usage"]["completion_tokens"])
            if b'"event":"error"' in line or not line:
                raise RuntimeError(line.decode())

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def throughput(ask: Ask, streams: int, tokens: int) -> float:
    """Tokens per second over all streams, from the first start to the last end."""
    prompt = "word " * tokens
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        done = [tasks.create_task(ask(prompt)) for _ in range(streams)]
    assert all(task.result() == tokens for task in done)
    return streams * tokens / (time.monotonic() - began)


async def latency(ask: Ask, count: int) -> list[float]:
    """Seconds for each of `count` one-token requests, one after the other."""
    seconds = []
    for _ in range(count):
        began = time.monotonic()
        await ask("hi")
        seconds.append(time.monotonic() - began)
    return seconds


@contextlib.asynccontextmanager
async def both_sides(made: Rig) -> AsyncIterator[dict[str, Ask]]:
    """Ways to ask, with the engine awake."""
    through = Through(made)
    await through.ask("wake up")
    engine = aiohttp.UnixConnector(str(made.run / "main" / "engine" / "vllm.sock"), limit=0)
    async with (
        aiohttp.ClientSession(connector=engine) as session,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        sides: dict[str, Ask] = {"straight": partial(straight, session, "http://engine")}
        sides["through"] = through.ask
        if made.http:
            sides["through"] = partial(straight, client, f"http://{made.http}")
        yield sides
    through.close()


async def throughputs(made: Rig, options: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"straight": [], "through": []}
    async with both_sides(made) as sides:
        for _ in range(options.rounds):
            for side, ask in sides.items():
                rates[side].append(await throughput(ask, options.streams, options.tokens))
    median = {side: statistics.median(found) for side, found in rates.items()}
    return {
        "tokens_per_s": {side: [round(r, 1) for r in found] for side, found in rates.items()},
        "throughput_ratio": round(median["through"] / median["straight"], 4),
    }


async def latencies(made: Rig, options: argparse.Namespace) -> dict[str, Any]:
    waits: dict[str, list[float]] = {"straight": [], "through": []}
    async with both_sides(made) as sides:
        for _ in range(options.rounds):
            for side, ask in sides.items():
                waits[side] += await latency(ask, options.requests)
    p50 = {side: statistics.median(found) for side, found in waits.items()}
    return {
        "latency_p50_s": {side: round(s, 6) for side, s in p50.items()},
        "added_latency_p50_s": round(p50["through"] - p50["straight"], 6),
    }


def measured(
    work: Callable[[Rig, argparse.Namespace], Coroutine[None, None, dict[str, Any]]],
    options: argparse.Namespace,
    *switches: str,
) -> dict[str, Any]:
    """What `work` finds in an installation of its own."""
    http = f"127.0.0.1:{free_port()}" if options.door == "http" else ""
    with rig(Path(tempfile.mkdtemp(prefix="live")), switches=switches, http=http) as made:
        made.start_daemon()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(work(made, options))
        made.stop_daemon()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--door", choices=("socket", "http"), default="socket")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--pace", type=float, default=312 / 64, help="tokens per second and stream")
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    result = {
        "door": options.door,
        "streams": options.streams,
        "paced_at_tokens_per_s": options.pace,
    }
    result |= measured(throughputs, options, "--tokens-per-s", str(options.pace))
    result |= measured(latencies, options)
    report({"bench": "live", "machine": machine()} | result)


if __name__ == "__main__":
    main()
