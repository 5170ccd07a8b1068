"""What was done and what it cost.

Writing functions run in the store's writer thread, in the same transaction as
the change they record. Reading is done through the views (docs/energy.md), by us
and by any other SQLite tool. What requests and moves have drawn is known some time
after them, and put into their rows then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict, replace

from appliance.storage.sql import Database
from policies.ladder import Depth

Line = Literal["request", "tail", "idle", "entering", "waking", "unattributed"]


class RequestLine(Struct, frozen=True, kw_only=True):
    """One request's row. None: not measured, or it never came to that.

    See 0002_ledger.sql and 0007_attribution.sql.
    """

    request: int | None
    id: str | None
    door: str
    client: str
    engine: str
    device: str
    model: str
    klass: str | None
    state: Literal["done", "failed", "refused"]
    error: str | None
    accepted_at: str
    ended_at: str
    started_at: str | None = None
    queued_s: float | None = None
    wake_s: float | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 0
    marginal_j: float | None = None
    wake_j: float | None = None
    energy_source: str | None = None
    quality: Literal["good", "low"] | None = None
    period: int | None = None


class Served(NamedTuple):
    """When a request was served, and whether for a person: instants in ISO 8601."""

    accepted_at: str
    started_at: str
    ended_at: str
    person: bool


class Transition(Struct, frozen=True, kw_only=True):
    """One climb to AWAKE, or one edge on the way down."""

    engine: str
    device: str
    at: str
    ended_at: str
    from_depth: str
    to_depth: str
    cause: str
    seconds: float
    energy_j: float | None
    source: str | None
    outcome: Literal["ok", "failed"]
    error: str | None = None
    smaller: str | None = None
    period: int | None = None


class Spent(Struct, frozen=True, kw_only=True):
    """Joules and seconds to be added to one line of one hour."""

    engine: str
    device: str
    hour: str
    line: Line
    depth: str
    source: str
    seconds: float
    energy_j: float | None


class Metered(Struct, frozen=True, kw_only=True):
    """What one meter has counted, to be added to its hour. `rail`: "" for all of it."""

    meter: str
    device: str
    hour: str
    rail: str
    source: str
    seconds: float
    energy_j: float


class Ended(Struct, frozen=True, kw_only=True):
    """An awake period is over, or requests of it that ended before `until` are settled."""

    period: int
    wake_j: float | None
    tail_j: float
    until: str | None = None


class Baked(Struct, frozen=True, kw_only=True):
    """One bake that came to an end. See 0005_baked.sql."""

    recipe: str
    engine: str
    at: str
    ended_at: str
    seconds: float
    outcome: Literal["ok", "failed"]
    error: str | None = None
    missing: str | None = None
    energy_j: float | None = None


def add(db: Database, row: RequestLine | Transition) -> int:
    """Append one row to the table that it belongs to. Its number there."""
    table = "ledger_request" if isinstance(row, RequestLine) else "ledger_transition"
    return _insert(db, table, asdict(row))


def add_up(db: Database, row: Spent | Metered) -> None:
    """Add to what the hour has already."""
    values = asdict(row)
    table = "ledger_energy" if isinstance(row, Spent) else "ledger_meter"
    db.execute(
        f"INSERT INTO {table} (span, {', '.join(values)})"  # noqa: S608 - ours
        f" VALUES ('hour', {', '.join(f':{name}' for name in values)})"
        " ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds,"
        " energy_j = energy_j + excluded.energy_j",
        values,
    )


def moved(db: Database, seq: int, energy_j: float, source: str) -> None:
    """What a move has drawn is known."""
    db.execute(
        "UPDATE ledger_transition SET energy_j = ?, source = ? WHERE seq = ?",
        (energy_j, source, seq),
    )


def settled(
    db: Database, seq: int, marginal_j: float | None, source: str | None, quality: str | None
) -> None:
    """What a request itself has drawn is known; or that it is not."""
    db.execute(
        "UPDATE ledger_request SET marginal_j = ?, energy_source = ?, quality = ? WHERE seq = ?",
        (marginal_j, source, quality, seq),
    )


def keep_learned(
    db: Database, engine: str, device: str, rows: Mapping[tuple[str, str], float], at: str
) -> None:
    for (name, of), value in rows.items():
        db.execute(
            "INSERT INTO learned VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value, at = excluded.at",
            (engine, device, name, of, value, at),
        )


def learned(db: Database, engine: str, device: str) -> dict[tuple[str, str], float]:
    """(name, of) -> value."""
    found = db.execute(
        "SELECT name, of, value FROM learned WHERE engine = ? AND device = ?", (engine, device)
    )
    return {(name, of): value for name, of, value in found.fetchall()}


def add_bake(db: Database, row: Baked) -> Baked:
    """Append it, and return it with the joules of the moves that it caused."""
    counted, moves, energy_j = db.execute(
        "SELECT count(energy_j), count(*), sum(energy_j) FROM ledger_transition"
        " WHERE engine = :engine AND cause = 'bake' AND at >= :at",
        {"engine": row.engine, "at": row.at},
    ).fetchone()
    whole = replace(row, energy_j=energy_j if counted == moves else None)
    _insert(db, "baked", asdict(whole))
    return whole


def latest_bakes(db: Database, recipe: str, limit: int) -> list[Baked]:
    """The newest first."""
    names = ", ".join(Baked.__struct_fields__)
    found = db.execute(
        f"SELECT {names} FROM baked WHERE recipe = ? ORDER BY seq DESC LIMIT ?",  # noqa: S608 - ours
        (recipe, limit),
    ).fetchall()
    return [Baked(**dict(zip(Baked.__struct_fields__, row, strict=True))) for row in found]


def word(depth: Depth) -> str:
    """A depth as it is stored, said and configured."""
    return depth.name.lower()


def summary(db: Database) -> dict[str, Any]:
    """Joules of today (local) and of all time by depth; None where nothing was measured."""
    today = db.execute(
        "SELECT sum(energy_j), group_concat(DISTINCT nullif(source, 'none')) FROM ledger_energy"
        " WHERE date(hour, 'localtime') = date('now', 'localtime')"
    ).fetchone()
    by_depth = db.execute("SELECT depth, sum(energy_j) FROM energy_by_depth GROUP BY depth")
    return {
        "today_j": today[0],
        "source": today[1],
        "by_depth_j": dict(by_depth.fetchall()),
    }


def last_wakes_s(db: Database, engine: str) -> dict[Depth, float]:
    """Seconds that the latest successful wake from each depth took."""
    found = db.execute(
        "SELECT from_depth, seconds, max(seq) FROM ledger_transition"
        " WHERE engine = ? AND to_depth = 'awake' AND outcome = 'ok' GROUP BY from_depth",
        (engine,),
    ).fetchall()
    return {Depth[depth.upper()]: float(seconds) for depth, seconds, _ in found}


def latest_moves(db: Database, engine: str, limit: int) -> list[dict[str, Any]]:
    """The latest climbs and edges, oldest first. `energy_j`: None: not measured."""
    found = db.query(
        "SELECT at, from_depth, to_depth, cause, seconds, energy_j, outcome, error"
        " FROM ledger_transition WHERE engine = ? ORDER BY seq DESC LIMIT ?",
        [engine, limit],
    )
    return list(found)[::-1]


def latest_service_s(db: Database, engine: str, limit: int = 100) -> list[float]:
    """Seconds from start to end of the latest answers, oldest first."""
    found = db.execute(
        "SELECT total_s - queued_s FROM ledger_request"
        " WHERE engine = ? AND state = 'done' AND queued_s IS NOT NULL ORDER BY seq DESC LIMIT ?",
        (engine, limit),
    ).fetchall()
    return [float(seconds) for (seconds,) in reversed(found)]


def served(db: Database, engine: str, limit: int) -> Iterator[Served]:
    """The latest requests that were begun, in order of acceptance; read as they are asked for."""
    found = db.execute(
        "SELECT * FROM (SELECT accepted_at, started_at, ended_at, class IS NOT 'batch'"
        " FROM ledger_request WHERE engine = ? AND started_at IS NOT NULL"
        " ORDER BY accepted_at DESC LIMIT ?) ORDER BY accepted_at",
        (engine, limit),
    )
    for accepted_at, started_at, ended_at, person in found:
        yield Served(accepted_at, started_at, ended_at, bool(person))


def _insert(db: Database, table: str, values: dict[str, Any]) -> int:
    if "klass" in values:
        values["class"] = values.pop("klass")
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    done = db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608 - our names
    assert done.lastrowid is not None
    return done.lastrowid
