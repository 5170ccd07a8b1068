"""The options --since and --until, and how they are told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from appliance.commands.options import Command
    from appliance.reports.wall import Span

HOURS = {"m": 1 / 60, "h": 1}
DAYS = {"d": 1, "w": 7}


class When(click.ParamType[datetime]):
    """`90m`, `24h`, `7d`, `2w`, `today`, `yesterday`, or a date with or without a time."""

    name = "when"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        from appliance.clock import SystemClock
        from appliance.reports.wall import EPOCH, day_start, days_ago

        now = SystemClock().utc()
        if value in {"today", "yesterday"}:
            return day_start(days_ago(now, int(value == "yesterday")))
        if span := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            number, unit = int(span[1]), span[2]
            if unit in DAYS:
                return days_ago(now, number * DAYS[unit])
            return max(EPOCH, now - timedelta(hours=number * HOURS[unit]))
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} is neither a span like 24h or 7d nor a date like 2026-03-01",
                param,
                ctx,
            )


def span_options(command: Command) -> Command:
    """Give the command `since` and `until`."""
    until = click.option(
        "--until", type=When(), metavar="WHEN", help="Up to then; a date is its beginning."
    )
    since = click.option(
        "--since", type=When(), metavar="WHEN", help="24h, 7d, today, or a date, local time."
    )
    return since(until(command))


def span(since: datetime | None, until: datetime | None, *, usual: str = "") -> Span:
    """`usual`: since when, if neither is given. Raises UsageError if the end comes first."""
    from appliance.reports.wall import Span

    if since is None and until is None and usual:
        since = When().convert(usual, None, None)
    if since is not None and until is not None and since >= until:
        raise click.UsageError(
            f"--since {shown(since)} is not before --until {shown(until)}: nothing lies between."
        )
    return Span(since, until)


def shown(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def title(what: str, period: Span) -> str:
    """What a table is about, with the zone in which its times are."""
    from appliance.clock import SystemClock

    start = "the beginning" if period.since is None else shown(period.since)
    end = "now" if period.until is None else shown(period.until)
    zone = (period.until or SystemClock().utc()).astimezone().tzname()
    return f"{what}, {start} to {end} ({zone})"
