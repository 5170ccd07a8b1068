"""Requests become final and are counted by the hour; old rows are put together, and go.

Their sums stay: what a year has cost is known when its requests are long forgotten.
Runs in the store's writer thread, like `appliance.storage.ledger`.
"""

# ruff: noqa: S608 - every name in this SQL is ours

from __future__ import annotations

from appliance.storage.ledger import Ended
from appliance.storage.sql import Database

MOST_ROWS = 2000
"""Put away or dropped by one commit: others wait for it."""

NEVER_RAN = -1

_MINE = "final = 0 AND period = :period AND (:until IS NULL OR ended_at <= :until)"
_ALL = (
    "final = 0 AND (period IS NULL OR period <= :period) AND (:until IS NULL OR ended_at <= :until)"
)
_HOUR = (
    "strftime('%Y-%m-%dT%H:%M:%S.000Z', strftime('%s', ended_at)"
    " - strftime('%s', ended_at, 'localtime') % 3600, 'unixepoch')"
)
_DAY = "strftime('%Y-%m-%dT%H:%M:%S.000Z', date(hour, 'localtime'), 'utc')"

_REQUEST_KEY = "engine, device, model, door, client, class, state, source"
_COUNTS = ("requests", "prompt_tokens", "completion_tokens", "marginal_tokens", "full_tokens")
_JOULES = ("marginal_j", "wake_j", "tail_j", "full_j")

_TABLES = {
    "ledger_energy": ("engine, device, line, depth, source", ("seconds",), ("energy_j",)),
    "ledger_meter": ("meter, device, rail, source", ("seconds", "energy_j"), ()),
    "ledger_request_hour": (_REQUEST_KEY, _COUNTS, _JOULES),
}
"""Table -> (key beside the hour, what is added up, likewise where it may be NULL)."""


def _added(sums: tuple[str, ...], maybe: tuple[str, ...]) -> str:
    """What an upsert does: NULL and something are something, NULL and NULL stay NULL."""
    plain = [f"{name} = {name} + excluded.{name}" for name in sums]
    return ", ".join(
        [
            *plain,
            *(
                f"{name} = coalesce({name} + excluded.{name}, {name}, excluded.{name})"
                for name in maybe
            ),
        ]
    )


def end_period(db: Database, ended: Ended) -> None:
    """Its wake and its tails go to its requests, in equal parts; and these are final."""
    values = {
        "period": ended.period,
        "until": ended.until,
        "wake_j": ended.wake_j,
        "tail_j": ended.tail_j,
    }
    ((count,),) = db.execute(f"SELECT count(*) FROM ledger_request WHERE {_MINE}", values)
    values["count"] = count
    db.execute(
        "UPDATE ledger_request SET wake_j = :wake_j / :count, tail_j = :tail_j / :count,"
        " full_j = marginal_j + :wake_j / :count + :tail_j / :count"
        f" WHERE {_MINE}",
        values,
    )
    db.execute(
        "UPDATE ledger_transition SET requests = coalesce(requests, 0) + :count,"
        " tail_j = coalesce(tail_j, 0.0) + :tail_j WHERE period = :period",
        values,
    )
    _count(db, ended.period, ended.until)


def count_the_rest(db: Database) -> None:
    """Those that never ran: refused, expired, cancelled while they waited."""
    _count(db, NEVER_RAN, None)


def give_up(db: Database) -> None:
    """What an earlier daemon has left: it ended before their joules were known."""
    db.execute("UPDATE ledger_request SET wake_j = NULL, quality = 'low' WHERE final = 0")
    ((last,),) = db.execute("SELECT max(period) FROM ledger_request WHERE final = 0")
    _count(db, NEVER_RAN if last is None else last, None)


def _count(db: Database, period: int, until: str | None) -> None:
    values = {"period": period, "until": until}
    db.execute(
        f"INSERT INTO ledger_request_hour (hour, span, {_REQUEST_KEY},"
        f" {', '.join((*_COUNTS, *_JOULES))})"
        f" SELECT {_HOUR}, 'hour', engine, device, model, door, client, coalesce(class, ''), state,"
        " coalesce(energy_source, 'none'), count(*), coalesce(sum(prompt_tokens), 0),"
        " coalesce(sum(completion_tokens), 0),"
        " coalesce(sum(iif(marginal_j IS NULL, 0, completion_tokens)), 0),"
        " coalesce(sum(iif(full_j IS NULL, 0, completion_tokens)), 0),"
        " sum(marginal_j), sum(wake_j), sum(tail_j), sum(full_j)"
        f" FROM ledger_request WHERE {_ALL} GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10"
        f" ON CONFLICT DO UPDATE SET {_added(_COUNTS, _JOULES)}",
        values,
    )
    db.execute(f"UPDATE ledger_request SET final = 1 WHERE {_ALL}", values)


def drop_requests(db: Database, before: str) -> bool:
    """Some final rows that ended before then. True: there may be more."""
    gone = db.execute(
        "DELETE FROM ledger_request WHERE seq IN (SELECT seq FROM ledger_request"
        " WHERE final = 1 AND ended_at < ? ORDER BY ended_at LIMIT ?)",
        (before, MOST_ROWS),
    )
    return bool(gone.rowcount == MOST_ROWS)


def put_hours_together(db: Database, before: str) -> None:
    """Hours that began before then become one row for each local day."""
    for table, (key, sums, maybe) in _TABLES.items():
        names = ", ".join((*sums, *maybe))
        added = ", ".join(f"sum({name})" for name in (*sums, *maybe))
        db.execute(
            f"INSERT INTO {table} (hour, span, {key}, {names})"
            f" SELECT {_DAY}, 'day', {key}, {added} FROM {table}"
            f" WHERE span = 'hour' AND hour < ? GROUP BY {_DAY}, {key}"
            f" ON CONFLICT DO UPDATE SET {_added(sums, maybe)}",
            (before,),
        )
        db.execute(f"DELETE FROM {table} WHERE span = 'hour' AND hour < ?", (before,))
