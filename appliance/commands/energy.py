"""energy, savings: where the joules went, what they cost, and what the ladder saved.

An empty cell (null in JSON) means "not measured", which is not 0.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands import spans, terminal
from appliance.commands.options import Form, as_data, print_csv, print_json, with_config

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.reports.accounts import Account, Accounts, By
    from appliance.reports.wall import Span

BY = ("hour", "day", "depth", "line", "model", "client")
USUAL = {"hour": "24h", "day": "14d"}
"""Since when, if nobody says; else a month."""

with_plot = click.option(
    "--plot", metavar="FILE.png", type=click.Path(path_type=Path, dir_okay=False),
    help="Draw it, too: a .png, .svg or .pdf.",
)  # fmt: skip


@click.command()
@click.option("--by", type=click.Choice(BY), default="day", show_default=True)
@spans.span_options
@with_plot
@as_data
@with_config
def energy(
    config: Config,
    form: Form,
    by: By,
    since: datetime | None,
    until: datetime | None,
    plot: Path | None,
) -> None:
    """Show where the joules went, and what they cost.

    By hour, day, depth or line: all that the meter which bills has counted. By
    model or client: what requests have used, each with its share of the wake
    that it waited for. Without --since: the last 14 days; by hour, the last 24
    hours; else, the last 30 days. Hours count as a whole; so do days, by day.

    Cost and CO2 follow the table [tariff] of the configuration. `trust` says
    how the joules are known: docs/energy.md.

    \b
    wattnap energy
    wattnap energy --by hour --since yesterday --until today
    wattnap energy --by model --since 2026-03-01 --until 2026-04-01 --json
    wattnap energy --since 30d --plot month.png

    Exit codes: 0 fine · 64 wrong usage · 66 FILE cannot be written · 69 there
    is no database, or no matplotlib · 78 the configuration is wrong.
    """
    period = spans.span(since, until, usual=USUAL.get(by, "30d"))
    if by == "day":
        period = period.whole_days()
    title = spans.title(f"energy by {by}", period)
    account = _ask(config, period, lambda accounts: accounts.energy(by))
    match form:
        case "json":
            _print_json("energy", account, period, config, by=by)
        case "csv":
            print_csv(account.names, account.rows)
        case "people" if account.rows:
            from appliance.commands import energy_tables

            terminal.say(f"{title}\n")
            energy_tables.show(account, by, config.tariff.currency)
        case "people":
            terminal.say(f"{spans.title('nothing was booked', period)}", err=True)
    if plot is not None:
        from appliance.reports.plots import draw_energy

        _draw(plot, lambda: draw_energy(plot, account, by, title, config.tariff.currency))


@click.command()
@spans.span_options
@with_plot
@as_data
@with_config
def savings(
    config: Config,
    form: Form,
    since: datetime | None,
    until: datetime | None,
    plot: Path | None,
) -> None:
    """Show what the same days would have taken without rest, and without us.

    Three columns: as vLLM ships, always awake; always awake, but without the
    GPU's boost; the ladder, as it was. The first two are estimates, from what
    this machine was seen to draw. Without --since: the last 14 days.

    \b
    wattnap savings
    wattnap savings --since 30d --json | jq .total

    Exit codes: 0 fine · 64 wrong usage · 66 FILE cannot be written · 69 there
    is no database, or no matplotlib · 78 the configuration is wrong.
    """
    period = spans.span(since, until, usual=USUAL["day"]).whole_days()
    title = spans.title("savings", period)
    account = _ask(config, period, lambda accounts: accounts.savings())
    match form:
        case "json":
            _print_json("savings", account, period, config)
        case "csv":
            print_csv(account.names, account.rows)
        case "people" if account.rows:
            from appliance.commands import energy_tables
            from appliance.reports.boost import no_boost

            terminal.say(f"{title}\n")
            why = no_boost(config.engine)
            energy_tables.show_savings(account, config.tariff.currency, why)
        case "people":
            terminal.say(f"{spans.title('nothing was booked', period)}", err=True)
    if plot is not None:
        from appliance.reports.plots import draw_savings

        _draw(plot, lambda: draw_savings(plot, account, title))


COMMANDS = (energy, savings)


def _ask(config: Config, period: Span, question: Callable[[Accounts], Account]) -> Account:
    from appliance.reports.accounts import Accounts
    from appliance.reports.tally import Prices
    from appliance.storage.reading import opened
    from appliance.tariff import rate

    tariff = config.tariff
    prices = Prices(rate(tariff.per_kwh), rate(tariff.co2_g_per_kwh))
    with opened(config.database) as connection:
        return question(Accounts(connection, prices, period))


def _print_json(name: str, account: Account, period: Span, config: Config, **about: str) -> None:
    from appliance.clock import iso

    print_json(
        {
            **about,
            "since": period.since and iso(period.since),
            "until": period.until and iso(period.until),
            "currency": config.tariff.currency,
            name: account.rows,
            "total": account.total,
            "notes": account.notes,
        }
    )


def _draw(path: Path, draw: Callable[[], None]) -> None:
    try:
        draw()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--plot") from error
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
