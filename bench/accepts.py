"""How many durable requests a second are accepted, against what the disk can commit.

    python -m bench.accepts --senders 64 --seconds 10

Senders submit over the socket door, each waiting for its receipt before the
next. The engine is on its way up all the time, so that nothing else happens.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.disk import probed, slower, summary
from bench.rig import Rig, machine, report, rig


async def sender(made: Rig, end_s: float, waits: list[float]) -> None:
    reader, writer = await asyncio.open_unix_connection(str(made.socket))
    line = json.dumps({"op": "submit", "request": "turn on the light"}).encode() + b"\n"
    while (began := time.monotonic()) < end_s:
        writer.write(line)
        answer = await reader.readline()
        if b'"queued"' not in answer:
            raise RuntimeError(answer.decode())
        waits.append(time.monotonic() - began)
    writer.close()


async def run(made: Rig, options: argparse.Namespace) -> dict[str, Any]:
    waits: list[float] = []
    end_s = time.monotonic() + options.seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(options.senders):
            tasks.create_task(sender(made, end_s, waits))
    waits.sort()
    return {
        "accepts": len(waits),
        "accepts_per_s": round(len(waits) / options.seconds, 1),
        "p50_s": round(waits[len(waits) // 2], 6),
        "p99_s": round(waits[int(len(waits) * 0.99)], 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--senders", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slower-fsync-ms", type=float, default=0.0, help="an SSD: 2, SD card: 20")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="accepts"))
    slower(folder, options.slower_fsync_ms / 1000)
    with rig(folder, switches=("--start-s", "600")) as made:
        made.start_daemon()
        before = probed(folder)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(made, options))
        after = probed(folder)
    disk = summary(before + after)
    report(
        {"bench": "accepts", "machine": machine(), "senders": options.senders, "fsync": disk}
        | result
        | {
            "ratio_to_fsync_rate": round(result["accepts_per_s"] / disk["per_s"], 2),
            "p99_in_fsyncs": round(result["p99_s"] / disk["p50_s"], 2),
        }
    )


if __name__ == "__main__":
    main()
