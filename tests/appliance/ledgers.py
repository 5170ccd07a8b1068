"""Ledgers for tests: real database files, written as the daemon writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from appliance.clock import iso
from appliance.storage.store import open_database

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Without the system's list of zones: tzset(3)."""

ENGINE, DEVICE = "main", "GPU-1"


class Ledger:
    """Adds rows to the tables of one database."""

    def __init__(self, database: Database) -> None:
        self.db = database

    def energy(
        self,
        hour: str,
        line: str = "idle",
        depth: str = "parked",
        seconds: float = 3600.0,
        energy_j: float | None = 36_000.0,
        *,
        source: str = "counter",
        span: str = "hour",
        engine: str = ENGINE,
        device: str = DEVICE,
    ) -> None:
        self._insert(
            "ledger_energy",
            hour=hour, span=span, engine=engine, device=device, line=line, depth=depth,
            source="none" if energy_j is None else source, seconds=seconds, energy_j=energy_j,
        )  # fmt: skip

    def requests(self, hour: str, *, span: str = "hour", **columns: Any) -> None:
        """One row of the requests of an hour."""
        usual = {
            "engine": ENGINE, "device": DEVICE, "model": "main", "door": "socket",
            "client": "uid:1000", "class": "interactive", "state": "done", "source": "counter",
            "requests": 10, "prompt_tokens": 100, "completion_tokens": 1000,
            "marginal_j": 900.0, "wake_j": 80.0, "tail_j": 20.0, "full_j": 1000.0,
            "marginal_tokens": 1000, "full_tokens": 1000,
        }  # fmt: skip
        self._insert("ledger_request_hour", hour=hour, span=span, **usual | columns)

    def request(self, id: str, ended_at: str, **columns: Any) -> None:
        usual = {
            "door": "socket", "client": "uid:1000", "engine": ENGINE, "device": DEVICE,
            "model": "main", "class": "interactive", "state": "done", "accepted_at": ended_at,
            "started_at": ended_at, "attempts": 1, "prompt_tokens": 10, "completion_tokens": 100,
            "total_s": 2.0, "ttft_s": 0.1, "wake_s": 0.0, "energy_source": "counter",
            "quality": "good", "marginal_j": 90.0, "wake_j": 8.0, "tail_j": 2.0, "full_j": 100.0,
            "period": 1, "final": 1,
        }  # fmt: skip
        self._insert("ledger_request", id=id, ended_at=ended_at, **usual | columns)

    def edge(self, at: str, from_depth: str, to_depth: str, **columns: Any) -> None:
        usual = {
            "engine": ENGINE, "device": DEVICE, "cause": "request", "seconds": 4.0,
            "ended_at": iso(datetime.fromisoformat(at) + timedelta(seconds=4)),
            "energy_j": 600.0, "source": "counter", "outcome": "ok",
        }  # fmt: skip
        self._insert(
            "ledger_transition",
            at=at, from_depth=from_depth, to_depth=to_depth, **usual | columns,
        )  # fmt: skip

    def learned(self, name: str, value: float, of: str = "") -> None:
        self._insert(
            "learned",
            engine=ENGINE, device=DEVICE, name=name, of=of, value=value, at=iso(EPOCH),
        )  # fmt: skip

    def _insert(self, table: str, **columns: Any) -> None:
        names = ", ".join(columns)
        places = ", ".join("?" * len(columns))
        self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(columns.values()))


EPOCH = datetime.fromtimestamp(0, UTC)


@contextmanager
def ledger(path: Path) -> Iterator[Ledger]:
    """Add to the database at `path`, which is made if it is not there."""
    database = open_database(path)
    try:
        database.execute("BEGIN")
        yield Ledger(database)
        database.execute("COMMIT")
    finally:
        database.close()


def hours(first: str, count: int) -> list[str]:
    """Instants, as they are stored, an hour apart."""
    start = datetime.fromisoformat(first)
    return [iso(start + timedelta(hours=i)) for i in range(count)]


def a_week(into: Ledger) -> None:
    """7 days of Berlin, 2026-03-02 to 08, of which one afternoon was not measured."""
    for i, hour in enumerate(hours("2026-03-01T23:00:00Z", 7 * 24)):
        clock = i % 24
        busy = 600.0 if 8 <= clock < 22 else 0.0
        unmeasured = 2 * 24 + 12 <= i < 2 * 24 + 17
        into.energy(
            hour, "idle", "parked", 3590 - 2 * busy,
            None if unmeasured else 75 * (3590 - 2 * busy),
        )  # fmt: skip
        if busy:
            into.energy(hour, "idle", "awake", 2 * busy, 79 * 2 * busy)
            into.energy(hour, "request", "awake", busy, 200 * busy)
            into.energy(hour, "tail", "awake", 20, 600)
            into.requests(
                hour, requests=6, completion_tokens=1200, full_tokens=1200, marginal_tokens=1200
            )
            into.requests(
                hour, door="mqtt", client="kitchen", model="home", requests=2,
                completion_tokens=50, full_tokens=50, marginal_tokens=50,
                marginal_j=80.0, full_j=100.0,
            )  # fmt: skip
            into.edge(hour, "parked", "awake")
        into.energy(hour, "waking", "parked", 4, 600)
        into.energy(hour, "entering", "parked", 6, 540)
    into.learned("floor_w", 79.0, of="awake")
    into.learned("boost_w", 41.0)
