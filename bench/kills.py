"""Random kills of everything under load, then an account of every accepted request.

    python -m bench.kills --kills 1000            the pretended engine, a real process
    python -m bench.kills --kills 20 --engine-python PATH --model DIR    a real vLLM

Clients send over both doors with ids of their own and repeat themselves until
they are sure. Afterwards, for every id: exactly one outcome, at most three runs,
all copies of its answer equal; and no process, socket or temporary file is left.
Prints one line of JSON; `ok` is false, and the exit status 1, if anything is amiss.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import psutil

from appliance.machine import canary
from bench.rig import Rig, machine, report, rig
from drivers.procfs import inodes_in_use, shared_memory

BASE = "wattnap/rig"
VICTIMS = {"daemon": 35, "server": 30, "guard": 20, "broker": 15}


@dataclass
class Seen:
    """What the clients were told."""

    acknowledged: set[str] = field(default_factory=set)  # PUBACK of the broker
    queued: set[str] = field(default_factory=set)  # our receipt
    answers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    copies: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)


async def publisher(made: Rig, name: str, seen: Seen, stop: asyncio.Event, rate: float) -> None:
    """Publishes with ids; says an id again until the broker has acknowledged it."""
    number = 0
    while not stop.is_set():
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            async with aiomqtt.Client(
                "127.0.0.1", made.broker.port, protocol=aiomqtt.ProtocolVersion.V5, timeout=5
            ) as client:
                while not stop.is_set():
                    id = f"m-{name}-{number}"
                    body = {"prompt": f"{id} says hello there", "wattnap": {"id": id}}
                    await client.publish(f"{BASE}/request", json.dumps(body), qos=1, timeout=3)
                    seen.acknowledged.add(id)
                    number += 1
                    await asyncio.sleep(random.expovariate(rate))
        await asyncio.sleep(0.05)


async def listener(made: Rig, seen: Seen) -> None:
    """Collects receipts and answers, with a session that the broker keeps."""
    while True:
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            async with aiomqtt.Client(
                "127.0.0.1",
                made.broker.port,
                protocol=aiomqtt.ProtocolVersion.V5,
                identifier="kills-listener",
                clean_start=False,
                timeout=5,
            ) as client:
                await client.subscribe([(f"{BASE}/response/+", 1), (f"{BASE}/status/+", 1)])
                async for message in client.messages:
                    kind, id = str(message.topic).split("/")[-2:]
                    payload = bytes(message.payload).decode()
                    if kind == "response":
                        seen.answers[id].add(payload)
                        seen.copies[id] += 1
                    elif json.loads(payload)["state"] == "queued":
                        seen.queued.add(id)
        await asyncio.sleep(0.05)


async def submitter(made: Rig, name: str, seen: Seen, stop: asyncio.Event, rate: float) -> None:
    """Submits over the socket; says an id again until it has the receipt."""
    number = 0
    while not stop.is_set():
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            reader, writer = await asyncio.open_unix_connection(str(made.socket), limit=1 << 20)
            with contextlib.closing(writer):
                while not stop.is_set():
                    id = f"s-{name}-{number}"
                    request = {"prompt": f"{id} says hello there", "wattnap": {"id": id}}
                    writer.write(json.dumps({"op": "submit", "request": request}).encode() + b"\n")
                    await writer.drain()
                    async with asyncio.timeout(5):
                        line = json.loads(await reader.readline())
                    if line["event"] == "queued":
                        seen.queued.add(id)
                        number += 1
                    await asyncio.sleep(random.expovariate(rate))
        await asyncio.sleep(0.05)


async def killer(made: Rig, seen: Seen, kills: int, pause_s: float) -> None:
    """Kills one thing after the other, at random times."""
    while seen.kills.total() < kills:
        await asyncio.sleep(random.uniform(0.1, 2 * pause_s))
        (victim,) = random.choices(list(VICTIMS), weights=list(VICTIMS.values()))
        if victim == "daemon":
            await asyncio.to_thread(made.stop_daemon, signal.SIGKILL)
            await asyncio.to_thread(made.start_daemon)
        elif victim == "broker":
            await asyncio.to_thread(made.broker.stop, signal.SIGKILL)
            await asyncio.to_thread(made.broker.start)
        else:
            guards, servers = await asyncio.to_thread(made.engine_processes)
            targets = guards if victim == "guard" else servers
            if not targets:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                random.choice(targets).kill()
        seen.kills[victim] += 1
        if seen.kills.total() % 50 == 0:
            print(f"{seen.kills.total()} kills, {len(seen.queued)} receipts", file=sys.stderr)


async def drained(made: Rig, limit_s: float) -> bool:
    """Wait until the inbox holds nothing unfinished and the outbox nothing at all."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        (row,) = await asyncio.to_thread(
            made.query,
            "SELECT (SELECT count(*) FROM inbox WHERE state IN ('waiting', 'running')) AS waiting,"
            " (SELECT count(*) FROM outbox) AS undelivered",
        )
        if not row["waiting"] and not row["undelivered"]:
            return True
        await asyncio.sleep(1)
    return False


async def run(made: Rig, options: argparse.Namespace) -> dict[str, Any]:
    seen, stop, before = Seen(), asyncio.Event(), shared_memory()
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener(made, seen))
        clients = [
            tasks.create_task(client(made, str(n), seen, stop, options.rate))
            for client in (publisher, submitter)
            for n in range(options.clients)
        ]
        await killer(made, seen, options.kills, options.pause)
        stop.set()
        await asyncio.wait(clients)
        print("draining", file=sys.stderr)
        empty = await drained(made, options.drain)
        await asyncio.sleep(2)  # the last answers are on their way to the listener
        listening.cancel()
    await asyncio.to_thread(made.stop_daemon)
    return account(made, seen, before) | {
        "drained": empty,
        "wall_s": round(time.monotonic() - began, 1),
    }


def account(made: Rig, seen: Seen, before: set[tuple[str, int]]) -> dict[str, Any]:
    """Compare what was promised with what is there."""
    rows = {
        row["id"]: row
        for row in made.query("SELECT id, state, attempts, code, answer FROM inbox ORDER BY seq")
    }
    ledger = Counter(
        row["id"] for row in made.query("SELECT id FROM ledger_request WHERE state != 'refused'")
    )
    runs: Counter[str] = Counter()
    if made.engine_log.exists():
        for line in made.engine_log.read_text().splitlines():
            prompt = json.loads(line.split(" ", 1)[1])
            if prompt != canary.PROMPT:  # the check after a wake
                runs[prompt.split()[0]] += 1
    stored = {id: (row["answer"] or b"").decode() for id, row in rows.items()}
    wrong = {
        "lost": sorted(seen.queued - rows.keys()),
        "unfinished": [i for i, r in rows.items() if r["state"] not in {"done", "failed"}],
        "not_one_ledger_row": [i for i in rows if ledger[i] != 1],
        "run_too_often": [i for i, n in runs.items() if n > 3],
        "copies_differ": [i for i, found in seen.answers.items() if len(found) != 1],
        "copies_differ_from_stored": [
            i for i, found in seen.answers.items() if found != {stored.get(i)}
        ],
        "processes_left": [" ".join(p.cmdline())[:200] for p in made.ours()],
        "files_left": [str(p) for p in made.run.rglob("*") if not p.is_dir()],
        "shared_memory_left": sorted(
            path for path, inode in shared_memory() - before if inode not in inodes_in_use()
        ),
    }
    mqtt = [i for i in rows if i.startswith("m-")]
    return {
        "ok": not any(wrong.values()),
        "kills": dict(seen.kills),
        "accepted": len(rows),
        "outcomes": dict(Counter(r["code"] or r["state"] for r in rows.values())),
        "runs_per_request": dict(sorted(Counter(runs.values()).items())),
        "mqtt_answers_received": len(seen.answers),
        "mqtt_answers_never_received": len(set(mqtt) - seen.answers.keys()),
        "mqtt_copies": seen.copies.total(),
        # The broker's promise, not ours: it acknowledged, was killed, and had not saved yet.
        "acknowledged_by_broker_but_never_delivered_to_us": len(seen.acknowledged - rows.keys()),
        "wrong": {name: found[:20] for name, found in wrong.items() if found},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.7, help="mean seconds between kills")
    parser.add_argument("--clients", type=int, default=3, help="per door")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second and client")
    parser.add_argument("--drain", type=float, default=600.0, help="longest wait at the end")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--engine-python", default="")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--keep", type=Path, help="folder for logs and the database")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    random.seed(seed)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="kills"))
    settings = {"switches": ("--tokens-per-s", "200", "--shared-memory")}
    if options.engine_python:
        settings = {}
    with rig(folder, engine_python=options.engine_python, model=options.model, **settings) as made:
        made.start_daemon()
        result = asyncio.run(run(made, options))
    report({"bench": "kills", "seed": seed, "machine": machine()} | result)
    sys.exit(0 if result["ok"] and result["drained"] else 1)


if __name__ == "__main__":
    main()
