"""Rows as a table for people, as wide as the place has room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from appliance.commands import terminal

Row = Mapping[str, Any]  # of a view; a value is text, a number or None

GAP = "  "
NARROWEST = 4


class Column:
    """One column: a heading, and a cell for each row.

    rank  0: always shown; where there is no room, the column with the highest goes first
    """

    def __init__(
        self, head: str, cells: Iterable[str], *, rank: int = 0, right: bool = False
    ) -> None:
        self.head, self.cells = head, list(cells)
        self.rank, self.right = rank, right

    @property
    def empty(self) -> bool:
        return not any(self.cells)

    @property
    def least(self) -> int:
        """How wide it is at least."""
        return max(map(terminal.columns, (self.head, *self.cells)))

    def lines(self, width: int, count: int) -> list[str]:
        """The heading, and cells for so many rows, each exactly so wide."""
        cells = [*self.cells, *[""] * (count - len(self.cells))]
        return [
            _padded(terminal.cut(text, width), width, right=self.right)
            for text in (self.head, *cells)
        ]


class Bars(Column):
    """Takes the room that the others leave. `draw` makes a row's bar, for a width."""

    MIN, MAX = 10, 40

    def __init__(self, draw: Sequence[Callable[[int], str]], *, rank: int = 0) -> None:
        super().__init__("", [" " * self.MIN] * len(draw), rank=rank)
        self._draw = draw

    def lines(self, width: int, count: int) -> list[str]:
        self.cells = [draw(width) for draw in self._draw]
        return super().lines(width, count)


def print_table(columns: Sequence[Column], *, below: int = 0) -> None:
    """On stdout, as wide as it is."""
    for line in made(columns, terminal.width(), below=below):
        terminal.say(line)


def made(columns: Sequence[Column], room: int | None, *, below: int = 0) -> Iterator[str]:
    """Lines, without columns in which nothing stands.

    room   columns of the terminal; None: as many as are needed
    below  rows under a rule
    """
    shown = _fitted(columns, room)
    widths = _widths(shown, room)
    count = max(len(column.cells) for column in shown)
    lines = [column.lines(width, count) for column, width in zip(shown, widths, strict=True)]
    for number, cells in enumerate(zip(*lines, strict=True)):
        if below and number == count - below + 1:
            yield ("─" if terminal.draws() else "-") * _total(widths)
        line = GAP.join(cells).rstrip()
        yield line if number else click.style(line, bold=True)


def _fitted(columns: Sequence[Column], room: int | None) -> list[Column]:
    """Without as many of the less needed as there is no room for."""
    shown = [column for column in columns if not column.empty]
    while room is not None and _total([column.least for column in shown]) > room:
        worst = max(shown, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        shown.remove(worst)
    return shown


def _widths(columns: Sequence[Column], room: int | None) -> list[int]:
    widths = [column.least for column in columns]
    spare = 10_000 if room is None else room - _total(widths)
    for i, column in enumerate(columns):
        if isinstance(column, Bars):
            widths[i] += max(0, min(spare, Bars.MAX - widths[i]))
    # Nothing is left to leave out: the widest are cut.
    while spare < 0 and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
        spare += 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - terminal.columns(text))
    return space + text if right else text + space


def words(head: str, rows: Sequence[Row], key: str, *, rank: int = 0) -> Column:
    return Column(head, (cell(key, row.get(key)) for row in rows), rank=rank)


def numbers(head: str, rows: Sequence[Row], key: str, *, rank: int = 0) -> Column:
    """Each to what a meter can know."""
    return Column(head, (cell(key, row.get(key)) for row in rows), rank=rank, right=True)


def amounts(
    head: str,
    rows: Sequence[Row],
    key: str,
    *,
    per: float = 1.0,
    digits: int = 0,
    rank: int = 0,
) -> Column:
    """All with the same number of digits after the point; the last row is their sum.

    per     of how many is one
    digits  as many as three figures of the largest need, and two more if the smallest
            would be nothing without them; but not fewer than these
    """
    values = [None if row.get(key) is None else row[key] / per for row in rows]
    sizes = [abs(value) for value in values[:-1] if value]
    if sizes:
        three, one = 2 - _magnitude(max(sizes)), -_magnitude(min(sizes))
        digits = min(max(digits, three, min(one, three + 2)), 9)
    texts = ("" if value is None else f"{value:.{digits}f}" for value in values)
    return Column(head, texts, rank=rank, right=True)


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value))


def distinct(head: str, rows: Sequence[Row], key: str, *, rank: int) -> Column:
    """Empty if it says the same in each row that says anything."""
    if len({row[key] for row in rows if key in row}) <= 1:
        return Column(head, [])
    return words(head, rows, key, rank=rank)


def cell(key: str, value: object) -> str:
    """One value for people: instants in local time, numbers to what a meter can know."""
    if value is None:
        return ""
    if isinstance(value, str) and key in {"at", "accepted_at", "ended_at"}:
        return datetime.fromisoformat(value).astimezone().strftime("%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return terminal.harmless(str(value))
