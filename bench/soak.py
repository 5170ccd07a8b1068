"""Hours of accelerated traffic, and what grows meanwhile.

    python -m bench.soak --minutes 120

Bursts over both doors with pauses long enough for the engine to rest: weeks of
wakes in hours. Every half minute the daemon's memory, descriptors, threads and
the database's files are noted. Slopes are least squares over the second half, when
caches have filled. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt
import psutil

from bench.rig import Rig, machine, report, rig

BASE = "wattnap/rig"
SAMPLE_S = 30.0
BAD = ['{"prompt":', '{"prompt": 3}', "", '{"prompt":"x","colour":1}']


async def mqtt_burst(made: Rig, burst: int, number: int) -> int:
    """Publish some prompts, a bad one among them, and wait for the answers."""
    async with aiomqtt.Client(
        "127.0.0.1", made.broker.port, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe(f"{BASE}/response/#", qos=1)
        await client.publish(f"{BASE}/request", random.choice(BAD), qos=1)
        ids = {f"soak-{number}-{n}" for n in range(burst)}
        for id in ids:
            body = {"prompt": "tell me " * random.randint(1, 100), "wattnap": {"id": id}}
            await client.publish(f"{BASE}/request", json.dumps(body), qos=1)
        left = set(ids)
        async with asyncio.timeout(60):
            async for message in client.messages:
                left.discard(str(message.topic).rsplit("/", 1)[1])
                if not left:
                    break
    return len(ids)


async def socket_burst(made: Rig, burst: int, _number: int) -> int:
    """Live calls at once; some hang up in the middle."""

    async def ask() -> None:
        reader, writer = await asyncio.open_unix_connection(str(made.socket), limit=1 << 20)
        request = {"prompt": "say it " * random.randint(1, 100), "stream": True}
        writer.write(json.dumps({"op": "ask", "request": request}).encode() + b"\n")
        hang_up = random.random() < 0.1
        async with asyncio.timeout(60):
            while line := await reader.readline():
                if b'"event":"answer"' in line or (hang_up and b'"event":"part"' in line):
                    break
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(burst):
            tasks.create_task(ask())
    return burst


def sample(made: Rig) -> dict[str, float]:
    assert made.daemon is not None
    process = psutil.Process(made.daemon.pid)
    wal = Path(f"{made.database}-wal")
    return {
        "at_s": time.monotonic(),
        "rss_bytes": process.memory_info().rss,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "wal_bytes": wal.stat().st_size if wal.exists() else 0,
        "database_bytes": made.database.stat().st_size,
        "children": len(process.children(recursive=True)),
    }


def slope_per_hour(samples: list[dict[str, float]], name: str) -> float:
    """Least squares over the second half, of what is held while the engine rests."""
    half = [sample for sample in samples[len(samples) // 2 :] if not sample["children"]]
    if len(half) < 2:
        return 0.0
    times = [s["at_s"] / 3600 for s in half]
    values = [s[name] for s in half]
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    pairs = zip(times, values, strict=True)
    return sum((t - mean_t) * (v - mean_v) for t, v in pairs) / spread


async def online(made: Rig) -> None:
    """Return once it listens: what is published before its first visit, no broker keeps."""
    async with aiomqtt.Client("127.0.0.1", made.broker.port) as client, asyncio.timeout(30):
        await client.subscribe(f"{BASE}/availability")
        async for message in client.messages:
            if message.payload == b"online":
                return


async def run(made: Rig, minutes: float) -> dict[str, Any]:
    await online(made)
    end_s = time.monotonic() + minutes * 60
    samples, served, number = [sample(made)], 0, 0
    while time.monotonic() < end_s:
        burst = random.randint(1, 20)
        kind = random.choice([mqtt_burst, socket_burst])
        served += await kind(made, burst, number)
        number += 1
        await asyncio.sleep(random.choice([0.1, 0.5, 4.0]))
        if time.monotonic() - samples[-1]["at_s"] >= SAMPLE_S:
            samples.append(sample(made))
            if len(samples) % 20 == 0:
                print(f"{served} requests, {samples[-1]}", file=sys.stderr)
    (wakes,) = made.query("SELECT count(*) AS n FROM wakes")
    names = ("rss_bytes", "descriptors", "threads", "wal_bytes", "database_bytes")
    return {
        "minutes": minutes,
        "requests": served,
        "wakes": wakes["n"],
        "first": samples[0],
        "last": samples[-1],
        "largest": {name: max(s[name] for s in samples) for name in names},
        "slope_per_hour": {name: round(slope_per_hour(samples, name), 2) for name in names},
        "samples": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    with rig(folder, idle_timeout_s=2.0, switches=("--tokens-per-s", "500")) as made:
        made.start_daemon()
        result = asyncio.run(run(made, options.minutes))
        made.stop_daemon()
        result["processes_left"] = len(made.ours())
    report({"bench": "soak", "machine": machine()} | result)


if __name__ == "__main__":
    main()
