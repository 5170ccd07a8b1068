"""How soon the log answers: a year, a million requests, then the commands as a user runs them.

    python -m bench.log [--database FILE] [--requests N] [--days N] [--runs N]

FILE is made if it is not there, in about half a minute. Each command is a process of its own,
Python's start included ("nothing" is that start alone). Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from appliance.clock import iso
from appliance.storage.store import open_database
from bench.rig import machine, report

COMMANDS = {
    "nothing": ["--version"],
    "energy_by_day_30d": ["energy", "--by", "day", "--since", "30d"],
    "energy_by_day_30d_json": ["energy", "--by", "day", "--since", "30d", "--json"],
    "energy_by_day_all": ["energy", "--by", "day", "--since", "2000-01-01"],
    "energy_by_hour_24h": ["energy", "--by", "hour", "--since", "24h"],
    "energy_by_client_30d": ["energy", "--by", "client", "--since", "30d"],
    "savings_30d": ["savings", "--since", "30d"],
    "requests": ["requests"],
    "requests_of_a_client": ["requests", "--client", "uid:1003"],
    "wakes": ["wakes"],
}
CLIENTS = tuple(f"uid:{1000 + i}" for i in range(10))
ENGINE, DEVICE = "main", "GPU-4e9f1a6c-0000-0000-0000-000000000000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="log"))
    path = options.database or folder / "wattnap.db"
    if path.name != "wattnap.db":
        parser.error("FILE has to be called wattnap.db: that is the one which commands open")
    if not path.exists():
        make(path, requests=options.requests, days=options.days)
    config = folder / "wattnap.toml"
    config.write_text(
        f'state_dir = "{path.parent.absolute()}"\n'
        '[tariff]\nper_kwh = { "06:00-22:00" = 0.34, "22:00-06:00" = 0.21 }\n'
    )
    report(
        {
            "bench": "log",
            "machine": machine(),
            "database_bytes": path.stat().st_size,
            "requests": options.requests,
            "days": options.days,
            "commands": {
                name: took(arguments, config, options.runs) for name, arguments in COMMANDS.items()
            },
        }
    )


def took(arguments: list[str], config: Path, runs: int) -> dict[str, float]:
    """Wall time is what a user waits; on a busy machine the time of a core says more."""
    environ = os.environ | {"WATTNAP_CONFIG": str(config)}
    wall_s, core_s = [], []
    for _ in range(runs):
        began_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", *arguments],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, arguments
        wall_s.append(time.perf_counter() - began_s)
        core_s.append(used.ru_utime + used.ru_stime)
    return {
        "median_s": round(statistics.median(wall_s), 3),
        "least_s": round(min(wall_s), 3),
        "core_s": round(statistics.median(core_s), 3),
    }


def make(path: Path, *, requests: int, days: int) -> None:
    """A ledger with so many requests that ends now, in the shape that the daemon writes."""
    chance = random.Random(5)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now - timedelta(hours=h) for h in range(24 * days, 0, -1)]
    weights = [
        chance.uniform(0.02, 0.1) + (7 <= h.hour <= 22) * chance.random() * (1 - h.weekday() / 12)
        for h in hours
    ]
    each = [round(requests * weight / sum(weights)) for weight in weights]
    db = open_database(path)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    names = "id, door, client, engine, device, model, class, state, accepted_at, started_at, "
    names += "ended_at, queued_s, wake_s, ttft_s, total_s, prompt_tokens, completion_tokens, "
    names += "attempts, marginal_j, wake_j, tail_j, full_j, energy_source, quality, period, final"
    db.conn.executemany(
        f"INSERT INTO ledger_request ({names}) VALUES ({', '.join('?' * 26)})",
        (row for hour, n in zip(hours, each, strict=True) for row in _asked(chance, hour, n)),
    )
    db.execute(
        "INSERT INTO ledger_request_hour SELECT substr(accepted_at, 1, 13) || ':00:00.000Z',"
        " 'hour', engine, device, model, door, client, class, state, energy_source, count(*),"
        " sum(prompt_tokens), sum(completion_tokens), sum(marginal_j), sum(wake_j), sum(tail_j),"
        " sum(full_j), sum(completion_tokens), sum(completion_tokens)"
        " FROM ledger_request GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10"
    )
    for hour, weight in zip(hours, weights, strict=True):
        busy = weight / max(weights)
        db.conn.executemany(
            "INSERT INTO ledger_energy VALUES (?, 'hour', ?, ?, ?, ?, ?, ?, ?)",
            [(iso(hour), ENGINE, DEVICE, *line) for line in _lines(chance, busy)],
        )
        db.conn.executemany(
            "INSERT INTO ledger_transition (engine, device, at, ended_at, from_depth, to_depth,"
            " cause, seconds, energy_j, source, outcome, period, requests, tail_j) VALUES"
            " (?, ?, ?, ?, ?, ?, ?, ?, ?, 'counter', 'ok', ?, ?, 60.0)",
            [
                (
                    ENGINE,
                    DEVICE,
                    iso(hour + timedelta(minutes=minute)),
                    iso(hour + timedelta(minutes=minute, seconds=4)),
                    *edge,
                    4.0,
                    600.0,
                    None,
                    1,
                )
                for minute, edge in EDGES
            ],
        )
    db.conn.executemany(
        "INSERT INTO learned VALUES (?, ?, ?, ?, ?, ?)",
        [
            (ENGINE, DEVICE, "floor_w", "awake", 79.0, iso(now)),
            (ENGINE, DEVICE, "boost_w", "", 41.0, iso(now)),
        ],
    )
    db.execute("COMMIT")
    db.execute("ANALYZE")
    db.close()


def _lines(chance: random.Random, busy: float) -> Iterator[tuple[Any, ...]]:
    """One hour's rows; `busy`: 0 to 1."""
    asked_s = 1500 * busy * chance.uniform(0.5, 1.0)
    awake_s = min(3600.0, 2.5 * asked_s)
    parked_s = 3580.0 - awake_s if awake_s < 3500 else 0.0
    yield "request", "awake", "counter", asked_s, 210.0 * asked_s
    yield "tail", "awake", "counter", asked_s / 10, 1.2 * asked_s
    yield "idle", "awake", "counter", awake_s, 79.0 * awake_s
    if parked_s:
        read = "counter" if chance.random() > 0.05 else "table"
        yield "idle", "parked", read, parked_s, 76.0 * parked_s
        for line, depth, seconds in (
            ("waking", "parked", 8.0), ("entering", "light", 6.0), ("entering", "parked", 6.0),
        ):  # fmt: skip
            yield line, depth, "counter", seconds, 150.0 * seconds


EDGES = (
    (5, ("parked", "awake", "request")),
    (20, ("awake", "light", "policy")),
    (21, ("light", "parked", "policy")),
)


def _asked(chance: random.Random, hour: datetime, count: int) -> Iterator[tuple[Any, ...]]:
    for i in range(count):
        at = iso(hour + timedelta(seconds=3599 * i / max(1, count)))
        client, tokens = chance.choice(CLIENTS), chance.randrange(20, 400)
        marginal_j = tokens * chance.uniform(0.8, 1.2)
        yield (
            f"{chance.getrandbits(64):016x}", "socket", client, ENGINE, DEVICE, ENGINE,
            "interactive", "done", at, at, at, 0.0, 0.0, 0.1, 2.0, 150, tokens, 1,
            marginal_j, 3.0, 1.0, marginal_j + 4.0, "counter", "good", i // 10, 1,
        )  # fmt: skip


if __name__ == "__main__":
    main()
