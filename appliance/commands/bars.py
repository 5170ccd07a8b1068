"""Bars of joules, of blocks and shades; of signs where there are no blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import click

from appliance.commands import terminal
from appliance.commands.tables import Row
from appliance.reports.tally import PARTS, Part, part_j


class Look(NamedTuple):
    block: str
    sign: str
    colour: str


LOOKS: dict[Part, Look] = {
    "resting": Look("░", ".", "green"),
    "awake, idle": Look("▒", "-", "yellow"),
    "not known for what": Look("▚", "?", "magenta"),
    "waking, going to rest": Look("▓", "+", "red"),
    "requests": Look("█", "#", "blue"),
}

EIGHTHS = " ▏▎▍▌▋▊▉"


def stacked(rows: Sequence[Row]) -> list[Callable[[int], str]]:
    """For each row a bar of its parts, the longest as wide as there is room."""
    most_j = max((sum(part_j(row, part) for part in PARTS) for row in rows), default=0.0)
    return [partial(_stack, row, most_j) for row in rows]


def _stack(row: Row, most_j: float, width: int) -> str:
    bar, reached_j, length = "", 0.0, 0
    for part in PARTS:
        reached_j += part_j(row, part)
        # Rounded at the end of each part, so that the whole has its own length.
        end = round(width * reached_j / most_j) if most_j else 0
        bar += _painted(end - length, LOOKS[part])
        length = end
    return bar


def legend(rows: Sequence[Row]) -> str:
    """What the parts mean that occur."""
    there = [part for part in PARTS if any(part_j(row, part) > 0 for row in rows)]
    return "   ".join(f"{_painted(1, LOOKS[part])} {part}" for part in there)


def plain(values: Sequence[float | None]) -> list[Callable[[int], str]]:
    """For each value a bar, the longest as wide as there is room."""
    most = max((value for value in values if value is not None), default=0.0)
    return [partial(_bar, value or 0.0, most) for value in values]


def _bar(value: float, most: float, width: int) -> str:
    eighths = round(8 * width * max(0.0, value) / most) if most > 0 else 0
    if not terminal.draws():
        return "#" * round(eighths / 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def _painted(length: int, look: Look) -> str:
    text = length * (look.block if terminal.draws() else look.sign)
    return click.style(text, fg=look.colour) if text else ""
