"""requests, wakes: what the log tells row by row, also while the daemon is stopped.

An empty cell (null in JSON) means "not measured", which is not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from appliance.commands import spans, terminal
from appliance.commands.options import Form, as_data, print_csv, print_json, with_config
from appliance.commands.tables import Column, Row, distinct, numbers, print_table, words
from appliance.commands.texts import TEXT
from appliance.commands.trust import NOT_MEASURED, explain

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.reports.records import Found
    from appliance.reports.wall import Span

MOST = 100_000
"""`ledger export` is for more."""

with_limit = click.option(
    "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="The newest only."
)


@click.command()
@spans.span_options
@with_limit
@click.option("--state", type=click.Choice(["done", "failed", "refused"]))
@click.option("--model", metavar="NAME", type=TEXT)
@click.option(
    "--client", metavar="NAME", type=TEXT, help='As in the log: "uid:1000", "kitchen", "".'
)
@as_data
@with_config
def requests(
    config: Config,
    form: Form,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    state: str | None,
    model: str | None,
    client: str | None,
) -> None:
    """List what was asked and what came of it, the latest to end first.

    \b
    wattnap requests --since 24h --state failed
    wattnap requests --client uid:1000 --json | jq '.requests[0].full_j'

    `wake s` is how long it waited for the engine to wake, `first s` when its
    first token came. J is what it drew itself; `all J` has its share of the
    wake and of the time after it, too. `trust`: docs/energy.md.

    Exit codes: 0 fine · 64 wrong usage · 69 there is no database.
    """
    from appliance.reports.records import find_requests

    period = spans.span(since, until)
    found = _ask(config, find_requests, period, limit, state=state, model=model, client=client)
    if _print_data("requests", form, found):
        return
    rows = [row | {"trust": _trust(row), "full_j": _final(row)} for row in found.rows]
    columns = [
        words("accepted", rows, "accepted_at"),
        words("id", rows, "id", rank=1),
        words("door", rows, "door", rank=8),
        words("client", rows, "client", rank=5),
        distinct("model", rows, "model", rank=6),
        words("state", rows, "state"),
        words("error", rows, "error", rank=2),
        numbers("wake s", rows, "wake_s", rank=3),
        numbers("first s", rows, "ttft_s", rank=7),
        numbers("total s", rows, "total_s", rank=8),
        numbers("tokens", rows, "completion_tokens", rank=6),
        numbers("J", rows, "marginal_j"),
        numbers("all J", rows, "full_j", rank=4),
        words("trust", rows, "trust", rank=4),
    ]
    _show(columns, found, "no request yet", limit)
    explain(row["trust"] for row in rows)


@click.command()
@spans.span_options
@with_limit
@as_data
@with_config
def wakes(
    config: Config, form: Form, since: datetime | None, until: datetime | None, limit: int
) -> None:
    """List the wakes, newest first: from where, why, in what time, at what cost.

    \b
    wattnap wakes --limit 5
    wattnap wakes --since 7d --csv > wakes.csv

    `tail J` is what the device drew above the floor after loads of that awake
    period; requests are those that ran in it.

    Exit codes: 0 fine · 64 wrong usage · 69 there is no database.
    """
    from appliance.reports.records import find_wakes

    found = _ask(config, find_wakes, spans.span(since, until), limit)
    if _print_data("wakes", form, found):
        return
    rows = [row | {"trust": _trust(row)} for row in found.rows]
    columns = [
        words("at", rows, "at"),
        distinct("engine", rows, "engine", rank=6),
        words("from", rows, "from_depth"),
        words("cause", rows, "cause", rank=2),
        numbers("wake s", rows, "wake_s"),
        numbers("J", rows, "wake_j"),
        numbers("tail J", rows, "tail_j", rank=5),
        numbers("awake s", rows, "awake_s", rank=3),
        numbers("requests", rows, "requests", rank=1),
        words("outcome", rows, "outcome", rank=4),
        words("trust", rows, "trust", rank=4),
    ]
    _show(columns, found, "no wake yet", limit)
    explain(row["trust"] for row in rows)


COMMANDS = (requests, wakes)


def _ask(
    config: Config, question: Callable[..., Found], period: Span, limit: int, **only: str | None
) -> Found:
    from appliance.storage.reading import opened

    with opened(config.database) as connection:
        return question(connection, period, limit, **only)


def _print_data(name: str, form: Form, found: Found) -> bool:
    """Whether that was what is wanted."""
    match form:
        case "json":
            print_json({name: found.rows, "more": found.more})
        case "csv":
            print_csv(found.names, found.rows)
    return form != "people"


def _show(columns: Sequence[Column], found: Found, empty: str, limit: int) -> None:
    if not found.rows:
        terminal.say(empty, err=True)
        return
    print_table(columns)
    if found.more:
        terminal.say(f"the newest {limit}; there are more (--limit, --since)", err=True)


def _trust(row: Mapping[str, object]) -> str:
    source = row.get("energy_source", row.get("source"))
    if source is None:
        return NOT_MEASURED
    low = row.get("quality") == "low" and source != "estimate"
    return "low" if low else str(source)


def _final(row: Row) -> object:
    """Its share of wake and tail is not known while its awake period goes on."""
    return row["full_j"] if row["final"] or row["marginal_j"] is None else "…"
