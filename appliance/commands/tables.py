"""Rows of the database as a table for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]  # of a view; a value is text, a number or None

REQUESTS = {
    "accepted": "accepted_at", "id": "id", "door": "door", "state": "state", "error": "error",
    "wake s": "wake_s", "first s": "ttft_s", "total s": "total_s", "tokens": "completion_tokens",
    "J": "marginal_j", "J to wake": "wake_j", "source": "energy_source",
}  # fmt: skip
BY_DEPTH = {
    "engine": "engine", "device": "device", "depth": "depth", "doing": "line", "s": "seconds",
    "J": "energy_j", "s not measured": "unmeasured_s", "source": "source",
}  # fmt: skip
BY_DAY = {
    "day": "day", "engine": "engine", "device": "device", "J": "energy_j", "requests": "requests",
    "wakes": "wakes", "prompt tokens": "prompt_tokens", "tokens": "completion_tokens",
    "source": "source",
}  # fmt: skip
WAKES = {
    "at": "at", "engine": "engine", "from": "from_depth", "cause": "cause", "wake s": "wake_s",
    "J": "wake_j", "awake s": "awake_s", "requests": "requests", "outcome": "outcome",
}  # fmt: skip

LESS_NEEDED = (
    "device", "energy_source", "source", "door", "total_s", "prompt_tokens", "completion_tokens",
    "engine", "ttft_s", "outcome", "unmeasured_s", "wake_j", "cause",
)  # fmt: skip


def show_table(columns: Mapping[str, str], rows: Sequence[Row], empty: str) -> None:
    """Print them on stdout; or, on stderr, that there are none."""
    from rich.console import Console

    if not rows:
        click.echo(empty, err=True)
        return
    # Into a pipe, a line is a row however long it is.
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, highlight=False)
    console.print(fitted(columns, rows, console))


def fitted(columns: Mapping[str, str], rows: Sequence[Row], console: Console) -> Table:
    """As much of `made` as has room in a line."""
    table, shown = made(columns, rows), dict(columns)
    unbounded = console.options.update(max_width=10_000)
    for key in LESS_NEEDED:
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
        shown = {head: of for head, of in shown.items() if of != key}
        table = made(shown, rows)
    return table


def made(columns: Mapping[str, str], rows: Sequence[Row]) -> Table:
    """Heading -> key of the row. A column in which nothing stands is left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = {
        head: key for head, key in columns.items() if any(row[key] is not None for row in rows)
    }
    for head, key in shown.items():
        number = any(isinstance(row[key], int | float) for row in rows)
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(key, row[key]) for key in shown.values()))
    return table


def cell(key: str, value: object) -> str:
    """One value for people: instants in local time, numbers to what a meter can know."""
    if value is None:
        return ""
    if isinstance(value, str) and key in {"at", "accepted_at"}:
        return datetime.fromisoformat(value).astimezone().strftime("%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
