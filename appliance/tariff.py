"""What a kilowatt-hour costs, in money or in grams of CO2, at each minute of the week. Pure.

A table has a line for each stretch of the day, in local time:

    "06:00-22:00" = 0.34                every day
    "22:00-06:00" = 0.21                into the next morning
    "Mon-Fri 06:00-22:00" = 0.34        on these days; also "Sat,Sun", "Fri-Mon"

Together they say one thing for each minute of the week: a hole and a contradiction are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 24 * 60
WEEK = 7 * DAY

LINE = re.compile(
    r"\s*(?:(?P<days>[A-Za-z,\s-]+?)\s+)?"
    r"(?P<from>\d{1,2}):(?P<from_min>\d\d)\s*-\s*(?P<to>\d{1,2}):(?P<to_min>\d\d)\s*"
)


class Rate(Struct, frozen=True):
    """Per kilowatt-hour, at each minute of the week from Monday 0:00 on, local time."""

    by_minute: tuple[float, ...]

    def at(self, local: datetime) -> float:
        return self.by_minute[minute_of_week(local)]

    def mean(self, local: datetime, minutes: int) -> float:
        """Over so many minutes from then on, as the clock on the wall counts them. Up to a week."""
        values = self._over(local, minutes)
        return values[0] if len(set(values)) == 1 else math.fsum(values) / minutes

    def changes(self, local: datetime, minutes: int) -> bool:
        """Whether it does, within so many minutes from then on."""
        return len(set(self._over(local, minutes))) > 1

    def _over(self, local: datetime, minutes: int) -> tuple[float, ...]:
        first = minute_of_week(local)
        within = self.by_minute[first : first + minutes]
        return within + self.by_minute[: minutes - len(within)]


def rate(table: float | Mapping[str, float]) -> Rate | None:
    """None for 0: nobody has said what it costs.

    Raises ValueError, naming the line that is wrong, the hole or the contradiction.
    """
    if not isinstance(table, Mapping):
        _finite(table, "it")
        return Rate((float(table),) * WEEK) if table else None
    said: list[tuple[str, float] | None] = [None] * WEEK
    for line, value in table.items():
        _finite(value, repr(line))
        for minute in minutes(line):
            if (before := said[minute]) is not None:
                raise ValueError(f"{_named(minute)} is in {before[0]!r} and in {line!r}")
            said[minute] = line, float(value)
    if holes := list(_holes(said)):
        more = f" (and {len(holes) - 1} more)" if len(holes) > 1 else ""
        first, end = holes[0]
        raise ValueError(f"nothing is said for {_named(first)} to {_end_named(end)}{more}")
    return Rate(tuple(value for _, value in filter(None, said)))


def _finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}, which is no price")


def minute_of_week(local: datetime) -> int:
    """Monday 0:00 is 0."""
    return local.weekday() * DAY + local.hour * 60 + local.minute


def stretches(lines: Iterable[str]) -> list[tuple[int, int]]:
    """(first minute of the week, the one after its last) of what the lines say together.

    Raises ValueError, naming the line that cannot be read.
    """
    said = {minute for line in lines for minute in minutes(line)}
    firsts = sorted(minute for minute in said if minute - 1 not in said)
    ends = sorted(minute + 1 for minute in said if minute + 1 not in said)
    return list(zip(firsts, ends, strict=True))


def minutes(line: str) -> Iterator[int]:
    """The minutes of the week that a line speaks of."""
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError(f'{line!r} is not like "06:00-22:00" or "Mon-Fri 06:00-22:00"')
    start, end = (
        _minute_of_day(line, found[hour], found[minute])
        for hour, minute in (("from", "from_min"), ("to", "to_min"))
    )
    if start in {end, DAY}:
        raise ValueError(f"{line!r} has no minute in it; a whole day is 00:00-24:00")
    length = (end - start) % DAY or DAY
    for day in _days(line, found["days"]):
        for minute in range(length):
            yield (day * DAY + start + minute) % WEEK


def _minute_of_day(line: str, hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > DAY:
        raise ValueError(f"{line!r}: there is no {hour}:{minute}")
    return found


def _days(line: str, named: str | None) -> Iterator[int]:
    if named is None:
        yield from range(7)
        return
    for part in named.split(","):
        first, _, last = (word.strip().capitalize() for word in part.partition("-"))
        if first not in DAYS or (last and last not in DAYS):
            raise ValueError(f"{line!r}: {part.strip()!r} is no day; days are {', '.join(DAYS)}")
        start = DAYS.index(first)
        count = (DAYS.index(last) - start) % 7 + 1 if last else 1
        yield from ((start + i) % 7 for i in range(count))


def _holes(said: list[tuple[str, float] | None]) -> Iterator[tuple[int, int]]:
    """(first minute, the one after its last) of each stretch without a word."""
    first: int | None = None
    for minute in range(WEEK + 1):
        silent = minute < WEEK and said[minute] is None
        if silent and first is None:
            first = minute
        elif not silent and first is not None:
            yield first, minute
            first = None


def _named(minute: int) -> str:
    day, of_day = divmod(minute, DAY)
    return f"{DAYS[day]} {of_day // 60:02}:{of_day % 60:02}"


def _end_named(minute: int) -> str:
    return _named(minute) if minute % DAY else f"{DAYS[minute // DAY - 1]} 24:00"
