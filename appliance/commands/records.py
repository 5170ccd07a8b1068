"""requests, energy, wakes: what the database tells, also while the daemon is stopped.

An empty cell (null in JSON) means "not measured", which is not 0.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.commands.options import as_json, print_json, with_config

if TYPE_CHECKING:
    from sqlite_utils import Database

    from appliance.config import Config

Row = Mapping[str, Any]  # of a view; a value is text, a number or None

UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Since(click.ParamType):
    """`90m`, `24h`, `7d`, `2w`, or a date with or without a time. Becomes ISO 8601 in UTC."""

    name = "since"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        from appliance.clock import SystemClock, iso

        if span := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            now_s = SystemClock().utc().timestamp()
            ago_s = int(span[1]) * UNITS_S[span[2]]
            return iso(datetime.fromtimestamp(max(0, now_s - ago_s), UTC))
        try:
            return iso(datetime.fromisoformat(value).astimezone(UTC))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a span like 24h nor a date like 2026-03-01", param, ctx)


@click.command()
@click.option("--since", type=Since(), metavar="WHEN", help="24h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--state", type=click.Choice(["done", "failed", "refused"]))
@as_json
@with_config
def requests(
    config: Config, json_: bool, since: str | None, limit: int, state: str | None
) -> None:
    """List what was asked, what came of it, and what it took; newest first.

    \b
    wattnap requests --since 24h --state failed
    wattnap requests --json | jq '.requests[0].marginal_j'

    `wake s` is how long it waited for the engine to wake, `first s` when its
    first token came; J is its own energy, and J to wake that of its wake.

    Exit codes: 0 fine · 69 there is no database yet.
    """
    rows = _rows(
        config,
        "SELECT * FROM requests WHERE (:since IS NULL OR accepted_at >= :since)"
        " AND (:state IS NULL OR state = :state) ORDER BY accepted_at DESC LIMIT :limit",
        {"since": since, "state": state, "limit": limit},
    )
    if json_:
        print_json({"requests": rows})
        return
    columns = {
        "accepted": "accepted_at", "id": "id", "door": "door", "state": "state",
        "error": "error", "wake s": "wake_s", "first s": "ttft_s", "total s": "total_s",
        "tokens": "completion_tokens", "J": "marginal_j", "J to wake": "wake_j",
        "source": "energy_source",
    }  # fmt: skip
    print_table(columns, rows, "no request yet")
    _explain(row["energy_source"] for row in rows)


@click.command()
@click.option("--by", type=click.Choice(["depth", "day"]), default="depth", show_default=True)
@as_json
@with_config
def energy(config: Config, json_: bool, by: str) -> None:
    """Show where the joules went.

    By depth: what was spent serving, idle at each depth, and on the way between
    them. By day: with the requests that the day answered.

    \b
    wattnap energy
    wattnap energy --by day --json

    Exit codes: 0 fine · 69 there is no database yet.
    """
    order = {"depth": "engine, device, depth, line", "day": "day, engine, device"}[by]
    rows = _rows(config, f"SELECT * FROM energy_by_{by} ORDER BY {order}")
    if json_:
        print_json({"by": by, "energy": rows})
        return
    columns = {
        "depth": {
            "engine": "engine", "device": "device", "depth": "depth", "doing": "line",
            "s": "seconds", "J": "energy_j", "s not measured": "unmeasured_s", "source": "source",
        },
        "day": {
            "day": "day", "engine": "engine", "device": "device", "J": "energy_j",
            "requests": "requests", "wakes": "wakes", "prompt tokens": "prompt_tokens",
            "tokens": "completion_tokens", "source": "source",
        },
    }[by]  # fmt: skip
    print_table(columns, rows, "nothing booked yet")
    _explain(row["source"] for row in rows)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@as_json
@with_config
def wakes(config: Config, json_: bool, limit: int) -> None:
    """List each wake: from where, why, how long it took, what it cost; newest first.

    \b
    wattnap wakes --limit 5

    Exit codes: 0 fine · 69 there is no database yet.
    """
    rows = _rows(config, "SELECT * FROM wakes ORDER BY at DESC LIMIT :limit", {"limit": limit})
    if json_:
        print_json({"wakes": rows})
        return
    columns = {
        "at": "at", "engine": "engine", "from": "from_depth", "cause": "cause",
        "wake s": "wake_s", "J": "wake_j", "awake s": "awake_s", "requests": "requests",
        "outcome": "outcome",
    }  # fmt: skip
    print_table(columns, rows, "no wake yet")


COMMANDS = (requests, energy, wakes)


def _rows(config: Config, query: str, values: Mapping[str, object] | None = None) -> list[Row]:
    database = _open(config.database)
    try:
        return list(database.query(query, dict(values or {})))
    finally:
        database.close()


def _open(path: Path) -> Database:
    from appliance import ledger

    return ledger.open_readonly(path)


def print_table(columns: Mapping[str, str], rows: Sequence[Row], empty: str) -> None:
    """Rows for people. A column in which nothing stands is left out."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        click.echo(empty, err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = {head: key for head, key in columns.items() if any(row[key] is not None for row in rows)}
    for head, key in shown.items():
        number = any(isinstance(row[key], int | float) for row in rows)
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(key, row[key]) for key in shown.values()))
    # Into a pipe, a line is a row however long it is.
    width = None if sys.stdout.isatty() else 1000
    Console(width=width).print(table, soft_wrap=False)


def cell(key: str, value: object) -> str:
    """One value for people: instants in local time, numbers to what a meter can know."""
    if value is None:
        return ""
    if isinstance(value, str) and key in {"at", "accepted_at"}:
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def _explain(sources: Iterable[str | None]) -> None:
    """What the joules are worth, where a meter did not count them."""
    if any("estimate" in (source or "") for source in sources):
        click.echo("estimate: computed from CPU time; no meter has measured it", err=True)
