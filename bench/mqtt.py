"""From an MQTT publish until the engine sees the prompt, with the engine awake.

    python -m bench.mqtt

One message at a time: each at once after the answer of the one before, and each
some time after it, when the processes on its way have gone to sleep. The engine
writes down, on the same monotonic clock, when it takes a prompt. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt
import uvloop

from bench.disk import probed, slower, summary
from bench.rig import Rig, machine, report, rig

WARM_UP = 10
NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


async def run(made: Rig, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways of sending, in turns."""
    waits: dict[str, list[float]] = {}
    async with aiomqtt.Client(
        "127.0.0.1",
        made.broker.port,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=NO_DELAY,
    ) as client:
        await client.subscribe("wattnap/rig/response/+", qos=1)
        await send(made, client, "warm", WARM_UP, 0.0)
        for number in range(options.rounds):
            for way, pause_s in {"at_once": 0.0, "apart": options.pause_ms / 1000}.items():
                name = f"{way}-{number}-"
                found = await send(made, client, name, options.messages, pause_s)
                for what, seconds in found.items():
                    waits.setdefault(f"{what}_{way}", []).extend(seconds)
    return {name: summary(found) for name, found in waits.items()}


async def send(
    made: Rig, client: aiomqtt.Client, name: str, messages: int, pause_s: float
) -> dict[str, list[float]]:
    """Seconds to the engine and to the answer, of so many messages one after the other."""
    published, answered = {}, []
    for number in range(messages):
        prompt = f"{name}{number}"
        body = json.dumps({"prompt": prompt, "wattnap": {"id": prompt}})
        published[prompt] = time.monotonic()
        await client.publish("wattnap/rig/request", body, qos=1)
        await anext(aiter(client.messages))
        answered.append(time.monotonic() - published[prompt])
        await asyncio.sleep(pause_s)
    seen = {}
    for line in made.engine_log.read_text().splitlines():
        at, prompt = line.split(" ", 1)
        seen[json.loads(prompt)] = float(at)
    return {"to_engine": [seen[p] - at_s for p, at_s in published.items()], "to_answer": answered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100, help="of a kind and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pause-ms", type=float, default=50.0)
    parser.add_argument("--slower-fsync-ms", type=float, default=0.0, help="an SSD: 2, SD card: 20")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mqtt"))
    slower(folder, options.slower_fsync_ms / 1000)
    with rig(folder) as made:
        made.start_daemon()
        before = probed(folder)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(made, options))
        disk = summary(before + probed(folder))
        made.stop_daemon()
    less = {
        f"{name}_p50_less_one_fsync_s": round(found["p50_s"] - disk["p50_s"], 6)
        for name, found in result.items()
        if name.startswith("to_engine")
    }
    report({"bench": "mqtt", "machine": machine(), "fsync": disk} | result | less)


if __name__ == "__main__":
    main()
