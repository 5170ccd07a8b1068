"""From an MQTT publish until the engine sees the prompt, with the engine awake.

    python -m bench.mqtt --messages 300

One message at a time, each after the answer of the one before. The engine
writes down, on the same monotonic clock, when it takes a prompt. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt
import uvloop

from bench.disk import fsync_s, summary
from bench.rig import Rig, machine, report, rig

NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


async def run(made: Rig, messages: int) -> dict[str, list[float]]:
    published, answered = {}, []
    async with aiomqtt.Client(
        "127.0.0.1",
        made.broker.port,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=NO_DELAY,
    ) as client:
        await client.subscribe("wattnap/rig/response/+", qos=1)
        for number in range(messages + 10):
            prompt = f"p{number}"
            body = json.dumps({"prompt": prompt, "wattnap": {"id": prompt}})
            published[prompt] = time.monotonic()
            await client.publish("wattnap/rig/request", body, qos=1)
            await anext(aiter(client.messages))
            answered.append(time.monotonic() - published[prompt])
    seen = {}
    for line in made.engine_log.read_text().splitlines():
        at, prompt = line.split(" ", 1)
        seen[json.loads(prompt)] = float(at)
    first = 10  # the engine woke, and caches filled
    return {
        "to_engine": [seen[f"p{n}"] - published[f"p{n}"] for n in range(first, messages + first)],
        "to_answer": answered[first:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mqtt"))
    with rig(folder) as made:
        made.start_daemon()
        before = fsync_s(folder)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            waits = runner.run(run(made, options.messages))
        disk = summary(before + fsync_s(folder))
        made.stop_daemon()
    result: dict[str, Any] = {name: summary(found) for name, found in waits.items()}
    p50 = statistics.median(waits["to_engine"])
    report(
        {"bench": "mqtt", "machine": machine(), "messages": options.messages, "fsync": disk}
        | result
        | {"to_engine_p50_less_one_fsync_s": round(p50 - disk["p50_s"], 6)}
    )


if __name__ == "__main__":
    main()
