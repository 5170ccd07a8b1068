"""requests, energy, wakes: what the database tells, also while the daemon is stopped.

An empty cell (null in JSON) means "not measured", which is not 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from appliance.commands import tables
from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.tables import Row

if TYPE_CHECKING:
    from appliance.config import Config

UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Since(click.ParamType[str]):
    """`90m`, `24h`, `7d`, `2w`, or a date with or without a time. Becomes ISO 8601 in UTC."""

    name = "since"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from appliance.clock import SystemClock, iso

        if span := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            now_s = SystemClock().utc().timestamp()
            ago_s = int(span[1]) * UNITS_S[span[2]]
            return iso(datetime.fromtimestamp(max(0, now_s - ago_s), UTC))
        try:
            return iso(datetime.fromisoformat(value).astimezone(UTC))
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a span like 24h nor a date like 2026-03-01", param, ctx
            )


@click.command()
@click.option("--since", type=Since(), metavar="WHEN", help="24h, 7d, or a date.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--state", type=click.Choice(["done", "failed", "refused"]))
@as_json
@with_config
def requests(config: Config, json_: bool, since: str | None, limit: int, state: str | None) -> None:
    """List what was asked and what came of it, newest first.

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
    tables.show_table(tables.REQUESTS, rows, "no request yet")
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
    query = {
        "depth": "SELECT * FROM energy_by_depth ORDER BY engine, device, depth, line",
        "day": "SELECT * FROM energy_by_day ORDER BY day, engine, device",
    }[by]
    rows = _rows(config, query)
    if json_:
        print_json({"by": by, "energy": rows})
        return
    columns = {"depth": tables.BY_DEPTH, "day": tables.BY_DAY}[by]
    tables.show_table(columns, rows, "nothing booked yet")
    _explain(row["source"] for row in rows)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@as_json
@with_config
def wakes(config: Config, json_: bool, limit: int) -> None:
    """List the wakes, newest first: from where, why, in what time, at what cost.

    \b
    wattnap wakes --limit 5

    Exit codes: 0 fine · 69 there is no database yet.
    """
    rows = _rows(config, "SELECT * FROM wakes ORDER BY at DESC LIMIT :limit", {"limit": limit})
    if json_:
        print_json({"wakes": rows})
        return
    tables.show_table(tables.WAKES, rows, "no wake yet")


COMMANDS = (requests, energy, wakes)


def _rows(config: Config, query: str, values: Mapping[str, object] | None = None) -> list[Row]:
    from appliance.reading import reading

    with reading(config.database) as database:
        return list(database.query(query, dict(values or {})))


def _explain(sources: Iterable[str | None]) -> None:
    """What the joules are worth, where a meter did not count them."""
    if any("estimate" in (source or "") for source in sources):
        click.echo("estimate: computed from CPU time; no meter has measured it", err=True)
