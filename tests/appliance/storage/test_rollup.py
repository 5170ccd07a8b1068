"""Requests become final, hours become days, old rows go: what they add up to stays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from appliance.clock import hour_of, iso
from appliance.storage import ledger, rollup
from appliance.storage.ledger import Ended, Metered, RequestLine, Spent, Transition
from appliance.storage.store import open_database

NOW = datetime(2026, 11, 21, 10, 40, tzinfo=UTC)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "ledger.db")
    yield made
    made.close()


def request(at: datetime, *, period: int | None = 7, **more: Any) -> RequestLine:
    values = {
        "request": None,
        "id": "a",
        "door": "mqtt",
        "client": "cook",
        "engine": "main",
        "device": "box",
        "model": "main",
        "klass": "interactive",
        "state": "done",
        "error": None,
        "accepted_at": iso(at),
        "ended_at": iso(at),
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "marginal_j": 30.0,
        "energy_source": "counter",
        "period": period,
    }
    return RequestLine(**(values | more))


def spent(at: datetime, energy_j: float | None, line: Any = "idle") -> Spent:
    return Spent(
        engine="main",
        device="box",
        hour=hour_of(at),
        line=line,
        depth="off",
        source="none" if energy_j is None else "counter",
        seconds=60.0,
        energy_j=energy_j,
    )


def sums(db: Database) -> list[dict[str, Any]]:
    """All that the views by day, client and model say, to the microjoule."""
    return [
        {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
        for view in ("energy_by_day", "energy_by_client", "energy_by_model", "energy_by_depth")
        for row in db.query(f"SELECT * FROM {view}")
    ]


def test_a_period_ends(db: Database) -> None:
    """Its wake and its tails go to its requests, in equal parts; then they are final."""
    wake = ledger.add(db, a_wake(period=7))
    ledger.moved(db, wake, 100.0, "counter")
    for marginal_j in (30.0, 70.0, None):
        ledger.add(db, request(NOW, marginal_j=marginal_j))
    ledger.add(db, request(NOW, period=8))
    rollup.end_period(db, Ended(period=7, wake_j=90.0, tail_j=30.0))

    rows = list(db.query("SELECT marginal_j, wake_j, tail_j, full_j, final FROM requests"))

    assert [tuple(row.values()) for row in rows] == [
        (30.0, 30.0, 10.0, 70.0, 1),
        (70.0, 30.0, 10.0, 110.0, 1),
        (None, 30.0, 10.0, None, 1),
        (30.0, None, None, None, 0),
    ]
    (row,) = db.query("SELECT wake_j, tail_j, requests FROM wakes")
    assert tuple(row.values()) == (100.0, 30.0, 3)


def a_wake(period: int) -> Transition:
    return Transition(
        engine="main",
        device="box",
        at=iso(NOW),
        ended_at=iso(NOW),
        from_depth="off",
        to_depth="awake",
        cause="request",
        seconds=3.0,
        energy_j=None,
        source=None,
        outcome="ok",
        period=period,
    )


def test_a_long_period_ends_by_parts(db: Database) -> None:
    """Those that ended before `until`, once; the wake's number of requests grows."""
    ledger.add(db, a_wake(period=7))
    ledger.add(db, request(NOW - timedelta(hours=1)))
    ledger.add(db, request(NOW))
    rollup.end_period(db, Ended(period=7, wake_j=50.0, tail_j=0.0, until=iso(NOW)[:-5]))

    assert [row["final"] for row in db.query("SELECT final FROM requests")] == [1, 0]
    assert [row["requests"] for row in db.query("SELECT requests FROM wakes")] == [1]

    rollup.end_period(db, Ended(period=7, wake_j=0.0, tail_j=6.0))

    assert [row["full_j"] for row in db.query("SELECT full_j FROM requests")] == [80.0, 36.0]
    assert [row["requests"] for row in db.query("SELECT requests FROM wakes")] == [2]


def test_final_or_not_it_counts_once(db: Database) -> None:
    """By day, client and model the same requests, before and after."""
    for minutes in range(0, 300, 37):
        ledger.add(db, request(NOW - timedelta(minutes=minutes)))
    ledger.add(db, request(NOW, period=None, state="refused", error="x", klass=None))
    before = list(db.query("SELECT requests, marginal_j FROM energy_by_client"))
    rollup.end_period(db, Ended(period=7, wake_j=0.0, tail_j=0.0))

    assert list(db.query("SELECT requests, marginal_j FROM energy_by_client")) == before
    assert before == [{"requests": 9, "marginal_j": 270.0}]


def test_what_a_dead_daemon_left(db: Database) -> None:
    """Its requests are final, with what was known, and marked as doubtful."""
    ledger.add(db, request(NOW, wake_j=12.0))
    rollup.give_up(db)

    (row,) = db.query("SELECT marginal_j, wake_j, full_j, quality, final FROM requests")
    assert tuple(row.values()) == (30.0, None, None, "low", 1)
    (row,) = db.query("SELECT requests, marginal_j, full_j FROM energy_by_model")
    assert tuple(row.values()) == (1, 30.0, None)


def test_those_that_never_ran_are_counted(db: Database) -> None:
    """Each hour; what runs is left alone."""
    ledger.add(db, request(NOW, period=None, state="failed", error="expired", marginal_j=None))
    ledger.add(db, request(NOW))
    rollup.count_the_rest(db)

    assert [row["final"] for row in db.query("SELECT final FROM requests")] == [1, 0]


def test_sums_outlive_their_rows(db: Database) -> None:
    """Requests go, hours become days: each view by day, client and model says the same."""
    for days in range(40):
        at = NOW - timedelta(days=days)
        for hours in range(0, 24, 5):
            ledger.add(db, request(at - timedelta(hours=hours), client=f"c{hours}"))
            ledger.add_up(db, spent(at - timedelta(hours=hours), 100.0 + hours))
            ledger.add_up(db, spent(at - timedelta(hours=hours), None, "waking"))
            ledger.add_up(db, metered(at - timedelta(hours=hours)))
    rollup.end_period(db, Ended(period=7, wake_j=10.0, tail_j=1.0))
    before, meters = sums(db), list(db.query("SELECT * FROM energy_by_meter"))
    early = iso(NOW - timedelta(days=10))
    while rollup.drop_requests(db, early):
        pass
    rollup.put_hours_together(db, early)
    rollup.put_hours_together(db, iso(NOW - timedelta(days=5)))

    assert sums(db) == before
    assert list(db.query("SELECT * FROM energy_by_meter")) == meters
    assert db["ledger_request"].count < 60
    assert db.execute("SELECT min(hour) >= ? FROM energy_by_hour", (early,)).fetchone() == (1,)


def metered(at: datetime) -> Metered:
    return Metered(
        meter="plug", device="box", hour=hour_of(at), rail="", source="counter",
        seconds=60.0, energy_j=50.0,
    )  # fmt: skip


def test_any_tool_reads_while_we_write(db: Database, tmp_path: Path) -> None:
    """In the middle of a transaction: sqlite-utils sees each view as it was before."""
    ledger.add(db, request(NOW))
    ledger.add_up(db, spent(NOW, 60.0))
    db.execute("BEGIN IMMEDIATE")
    ledger.add(db, request(NOW))
    told = {
        view: subprocess.run(
            [sys.executable, "-m", "sqlite_utils", "rows", str(tmp_path / "ledger.db"), view],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for view in ("requests", "energy_by_day", "savings")
    }
    db.execute("COMMIT")

    assert [len(json.loads(rows)) for rows in told.values()] == [1, 1, 1]
    assert db.execute("SELECT count(*) FROM requests").fetchone() == (2,)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Asia/Kathmandu"])
def test_an_hour_is_the_same_to_us_and_to_sqlite(
    db: Database, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where zones differ by parts of an hour, and where summer time ends."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for minutes in range(0, 24 * 60, 7):
            at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=minutes)
            ledger.add(db, request(at))
            ((hour,),) = db.execute("SELECT hour FROM requests_by_hour").fetchall()
            db.execute("DELETE FROM ledger_request")
            assert hour == hour_of(at)
            assert hour <= iso(at) < iso(datetime.fromisoformat(hour) + timedelta(hours=1))
    finally:
        monkeypatch.undo()
        time.tzset()
