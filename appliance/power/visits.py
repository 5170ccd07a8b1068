"""Traces of arrivals: from files, and from the log of this machine.

A file is CSV with a line of names, among them `t_s`, seconds of any origin; `service_s`, the
work that the arrival made, and `local_hour`, where they are known. An idle period runs from
the last completion to the next arrival.
"""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

from appliance.errors import DataUnusable
from appliance.storage.ledger import Served
from appliance.tariff import WEEK, minute_of_week
from policies.replay import Trace, Visit

SHIPPED = Path(__file__).with_name("traces")

MOST_S = 1e12
"""In no file does anything happen later; sums stay exact to a millisecond."""


class Arrival(NamedTuple):
    """person  somebody waits for it; else it is batch work"""

    at_s: float
    service_s: float
    person: bool


def read(path: Path, name: str | None = None) -> Trace:
    """Raises DataUnusable, naming the file, the line and what is wrong with it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            arrivals, hour = _arrivals(path, csv.DictReader(file))
    except OSError as error:
        raise DataUnusable(f"{path}: {os.strerror(error.errno or 0)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataUnusable(f"{path}: {error}") from error
    # Nobody says which day it was: any will do, as long as days are told apart.
    minute = 0.0 if hour is None else 60.0 * hour
    return trace(name or str(path), arrivals, minute)


def shipped() -> list[Path]:
    """Traces that come with wattnap."""
    return sorted(SHIPPED.glob("*.csv"))


def _arrivals(path: Path, lines: csv.DictReader[str]) -> tuple[Iterator[Arrival], float | None]:
    """In order of time, and the hour of the first one, if any line tells one."""
    if "t_s" not in (lines.fieldnames or ()):
        raise DataUnusable(f"{path}: no column t_s")
    # Packed: a year of arrivals should fit on a small board.
    times_s, works_s = array("d"), array("d")
    hour_at_0 = None
    for line in lines:
        at_s = _number(path, lines.line_num, line, "t_s")
        service_s = _number(path, lines.line_num, line, "service_s", 0.0)
        if service_s < 0:
            raise DataUnusable(f"{path}, line {lines.line_num}: service_s is {service_s}")
        if hour_at_0 is None and (line.get("local_hour") or "").strip():
            hour_at_0 = _number(path, lines.line_num, line, "local_hour") - at_s / 3600
        times_s.append(at_s)
        works_s.append(service_s)
    if not times_s:
        raise DataUnusable(f"{path}: no arrival")
    order: Sequence[int] = range(len(times_s))
    if any(later < at_s for at_s, later in pairwise(times_s)):
        order = sorted(order, key=times_s.__getitem__)
    found = (Arrival(times_s[i], works_s[i], person=True) for i in order)
    return found, None if hour_at_0 is None else hour_at_0 + times_s[order[0]] / 3600


def _number(
    path: Path, number: int, line: dict[str, str], name: str, default: float | None = None
) -> float:
    """Raises DataUnusable. `default`: for an empty cell or none."""
    said = line.get(name) or ""
    if not said.strip() and default is not None:
        return default
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataUnusable(f"{path}, line {number}: {name} is {said!r}, which is no number")
    if abs(value) > MOST_S:
        raise DataUnusable(f"{path}, line {number}: {name} is {said!r}, which is too much")
    return value


def trace(name: str, arrivals: Iterable[Arrival], first_minute: float) -> Trace:
    """`arrivals`: in order of time. `first_minute`: of the week, of the first one."""
    made = Trace(name)
    origin_s: float | None = None
    begun_s = ended_s = 0.0
    for at_s, service_s, person in arrivals:
        if origin_s is None:
            origin_s = begun_s = ended_s = at_s
        elif at_s > ended_s:
            minute = int(first_minute + (ended_s - origin_s) / 60) % WEEK
            made.add(Visit(at_s - ended_s, minute, ended_s - begun_s, person))
            begun_s = at_s
        ended_s = max(ended_s, at_s + service_s)
        made.requests += 1
    made.span_s = 0.0 if origin_s is None else ended_s - origin_s
    return made


def logged(name: str, served: Iterable[Served]) -> Trace:
    """What this machine has seen: arrivals as they came, with the work that they made."""
    arrivals = (
        Arrival(accepted_s, ended_s - started_s, person)
        for accepted_s, started_s, ended_s, person in _instants(served)
    )
    return _dated(name, arrivals)


def idle_periods(served: Iterable[Served]) -> Trace:
    """Likewise, but as the daemon sees them: busy from the arrival on, the wake included."""
    arrivals = (
        Arrival(accepted_s, ended_s - accepted_s, person=True)
        for accepted_s, _, ended_s, person in _instants(served)
        if person
    )
    return _dated("log", arrivals)


def _dated(name: str, arrivals: Iterator[Arrival]) -> Trace:
    """Of arrivals since 1970, which tell the minute of the week themselves."""
    first = next(arrivals, None)
    if first is None:
        return Trace(name)
    minute = minute_of_week(datetime.fromtimestamp(first.at_s).astimezone())
    return trace(name, chain([first], arrivals), minute)


def _instants(served: Iterable[Served]) -> Iterator[tuple[float, float, float, bool]]:
    for row in served:
        accepted_s, started_s, ended_s = (datetime.fromisoformat(at).timestamp() for at in row[:3])
        yield accepted_s, started_s, max(ended_s, started_s), row.person
