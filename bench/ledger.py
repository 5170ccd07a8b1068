"""What a year of the ledger weighs, what its views take, and what writing and forgetting cost.

    python -m bench.ledger                             # a million requests: two minutes
    python -m bench.ledger --requests 100000 --keep ledger.db

The year is written by the same functions as the daemon's: each request is added, settled and
made final with its awake period; each hour has its lines. Views are queried as `wattnap
energy` does, beside a writer too; commands themselves are bench/log.py's. Then all requests
are forgotten and all hours put together: what stays. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from appliance.clock import SystemClock, hour_of, iso
from appliance.ids import new_id
from appliance.storage import ledger, rollup
from appliance.storage.ledger import Ended, Metered, RequestLine, Spent, Transition
from appliance.storage.reading import connect
from appliance.storage.store import open_database
from bench.rig import machine, report

ENGINE, DEVICE = "main", "GPU-4e9f1a6c-1c2d-4b3a-9e8f-2a7b6c5d4e3f"
CLOCK = SystemClock()
DAYS = 365
PERIODS_A_DAY = 24
QUERIES = {
    "energy by day, 30 days": "SELECT * FROM energy_by_day WHERE day >= date('now', '-30 days')",
    "energy by day, all": "SELECT * FROM energy_by_day",
    "energy by hour, 30 days": "SELECT * FROM energy_by_hour WHERE hour >= date('now', '-30 days')",
    "energy by depth": "SELECT * FROM energy_by_depth",
    "energy by model": "SELECT * FROM energy_by_model",
    "energy by client": "SELECT * FROM energy_by_client",
    "savings": "SELECT * FROM savings",
    "wakes, the latest 20": "SELECT * FROM wakes ORDER BY at DESC LIMIT 20",
    "requests, the latest 20": "SELECT * FROM requests ORDER BY ended_at DESC LIMIT 20",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="where the year stays, unforgotten")
    options = parser.parse_args()
    path = options.keep or Path(tempfile.mkdtemp(prefix="ledger")) / "wattnap.db"
    db = open_database(path)
    db.execute("PRAGMA synchronous = OFF")  # a year's commits are not what is measured
    began_s = time.perf_counter()
    written_s = write_a_year(db, options.requests, options.clients)
    made_s = time.perf_counter() - began_s
    result: dict[str, Any] = {
        "bench": "ledger",
        "machine": machine(),
        "requests": options.requests,
        "made_s": round(made_s, 1),
        "write_one_request_s": round(written_s, 6),
        "year": weighed(db),
        "views_s": {name: took(path, query) for name, query in QUERIES.items()},
        "beside_a_writer_s": beside_a_writer(db, path),
    }
    if options.keep is None:
        result |= forgotten(db)
    db.close()
    report(result)


def forgotten(db: Database) -> dict[str, Any]:
    """What that costs, and what stays."""
    began_s = time.perf_counter()
    longest_s = 0.0
    future = iso(datetime.now(UTC) + timedelta(days=1))
    while transacted(db, lambda: rollup.drop_requests(db, future)):
        now_s = time.perf_counter()
        longest_s, began_s = max(longest_s, now_s - began_s), now_s
    began_s = time.perf_counter()
    transacted(db, lambda: rollup.put_hours_together(db, future))
    together_s = time.perf_counter() - began_s
    db.execute("VACUUM")
    return {
        "forget_2000_requests_worst_s": round(longest_s, 4),
        "put_a_year_together_s": round(together_s, 3),
        "kept_for_ever": weighed(db),
    }


def write_a_year(db: Database, requests: int, clients: int) -> float:
    """That ends now. Mean seconds that a request's three writes take."""
    chance, spent_s, done = random.Random(5), 0.0, 0
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    periods = DAYS * PERIODS_A_DAY
    for n in range(periods):
        at = start + timedelta(hours=24 * n / PERIODS_A_DAY)
        count = requests * (n + 1) // periods - done
        done += count
        db.execute("BEGIN")
        spent_s += write_a_period(db, chance, at, count, clients)
        db.execute("COMMIT")
    return spent_s / requests


def write_a_period(
    db: Database, chance: random.Random, at: datetime, count: int, clients: int
) -> float:
    period = int(1000 * at.timestamp())
    for here, to in (("stopped", "awake"), ("awake", "light"), ("light", "stopped")):
        seq = ledger.add(db, a_move(at, here, to, period if to == "awake" else None))
        ledger.moved(db, seq, 400.0, "counter")
    began_s = time.perf_counter()
    for n in range(count):
        tokens = chance.randrange(20, 400)
        ended = at + timedelta(seconds=3000 * n / count)
        client = f"uid:{1000 + chance.randrange(clients)}"
        seq = ledger.add(db, a_request(ended, client, tokens, period))
        ledger.settled(db, seq, 2.05 * tokens, "counter", "good")
    rollup.end_period(db, Ended(period=period, wake_j=900.0, tail_j=80.0))
    spent_s = time.perf_counter() - began_s
    for line, depth, source in (
        ("request", "awake", "counter"),
        ("tail", "awake", "counter"),
        ("idle", "awake", "counter"),
        ("waking", "stopped", "counter"),
        ("entering", "light", "counter"),
        ("entering", "stopped", "counter"),
        ("idle", "stopped", "counter"),
        ("idle", "stopped", "table"),
    ):
        ledger.add_up(db, a_line(at, line, depth, source))
    for meter in ("nvml", "nvml-power", "plug"):
        ledger.add_up(db, a_metered(at, meter))
    return spent_s


def a_request(at: datetime, client: str, tokens: int, period: int) -> RequestLine:
    return RequestLine(
        request=None,
        id=new_id(CLOCK),
        door="mqtt",
        client=client,
        engine=ENGINE,
        device=DEVICE,
        model=ENGINE,
        klass="interactive",
        state="done",
        error=None,
        accepted_at=iso(at),
        started_at=iso(at),
        ended_at=iso(at),
        queued_s=0.0012345678,
        wake_s=0.0,
        ttft_s=0.0323456789,
        total_s=tokens / 47.3,
        prompt_tokens=150,
        completion_tokens=tokens,
        attempts=1,
        marginal_j=2.0 * tokens,
        wake_j=1.2345678,
        energy_source="counter",
        quality="low",
        period=period,
    )


def a_move(at: datetime, here: str, to: str, period: int | None) -> Transition:
    return Transition(
        engine=ENGINE,
        device=DEVICE,
        at=iso(at),
        ended_at=iso(at + timedelta(seconds=4)),
        from_depth=here,
        to_depth=to,
        cause="request",
        seconds=4.0123456,
        energy_j=None,
        source=None,
        outcome="ok",
        period=period,
    )


def a_line(at: datetime, line: Any, depth: str, source: str) -> Spent:
    return Spent(
        engine=ENGINE,
        device=DEVICE,
        hour=hour_of(at),
        line=line,
        depth=depth,
        source=source,
        seconds=1234.5678901,
        energy_j=98765.4321012,
    )


def a_metered(at: datetime, meter: str) -> Metered:
    return Metered(
        meter=meter,
        device=DEVICE,
        hour=hour_of(at),
        rail="",
        source="counter",
        seconds=3600.123,
        energy_j=284321.123456,
    )


def transacted(db: Database, work: Callable[[], Any]) -> Any:  # what the work returns
    db.execute("BEGIN")
    done = work()
    db.execute("COMMIT")
    return done


def weighed(db: Database) -> dict[str, Any]:
    """Bytes, all of them and by table with its indexes; rows."""
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((page,),) = db.execute("PRAGMA page_size").fetchall()
    tables = [name for name in db.table_names() if name.startswith("ledger_")]
    return {
        "bytes": (pages - free) * page,
        "rows": {name: db[name].count for name in tables},
    }


def took(path: Path, query: str, runs: int = 5) -> float:
    """Median seconds on a connection of its own, opening it included."""
    seconds = []
    for _ in range(runs):
        began_s = time.perf_counter()
        connection = connect(path)
        connection.execute(query).fetchall()
        connection.close()
        seconds.append(time.perf_counter() - began_s)
    return round(statistics.median(seconds), 4)


def beside_a_writer(db: Database, path: Path) -> float:
    """The same for the first view, while some 200 requests a second are written."""
    stop, chance = threading.Event(), random.Random(6)

    def write() -> None:
        while not stop.is_set():
            db.execute("BEGIN IMMEDIATE")
            write_a_period(db, chance, datetime.now(UTC), 20, 3)
            db.execute("COMMIT")
            time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return took(path, QUERIES["energy by day, 30 days"])
    finally:
        stop.set()
        writer.join()


if __name__ == "__main__":
    main()
