"""What the ledger says when it is asked about a stretch of time: rows for people and programs.

Reads only: hours of joules, hours of requests, and what they cost with the tariff of today.
An hour or a day belongs to the stretch if any of it does.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from appliance.clock import iso
from appliance.errors import Unreachable
from appliance.reports.tally import COLUMNS, Price, Prices, Row, Saved, Served, Spent, Stretch
from appliance.reports.wall import Span, hour_start, local

By = Literal["hour", "day", "depth", "line", "model", "client"]

UNATTRIBUTED = 0.05
"""If more of the joules are in no line for sure, somebody should know."""

DEPTHS = ("awake", "light", "parked", "stopped", "off", "suspended")
LINES = tuple(dict.fromkeys(line for line, _ in COLUMNS))

WITHIN = "hour >= :day AND hour < :end AND (span = 'day' OR hour >= :hour)"

ENERGY = f"""
SELECT hour, span, engine, device, line, depth, source, seconds, energy_j
FROM ledger_energy WHERE {WITHIN}
"""  # noqa: S608 - all of it is ours
REQUESTS = f"""
SELECT hour, span, engine, device, {{of}}, group_concat(DISTINCT source) AS source,
       sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
       sum(completion_tokens) AS completion_tokens, sum(marginal_j) AS marginal_j,
       sum(full_j) AS full_j, sum(marginal_tokens) AS marginal_tokens,
       sum(full_tokens) AS full_tokens
FROM requests_by_hour WHERE {WITHIN} AND state != 'refused'
GROUP BY hour, span, engine, device, {{of}}
"""  # noqa: S608
WAKES = """
SELECT at AS hour, 'hour' AS span, engine, device, '' AS source, 1 AS wakes
FROM ledger_transition
WHERE to_depth = 'awake' AND outcome = 'ok' AND at >= :hour AND at < :end
"""
SAVINGS = f"""
SELECT hour, span, engine, device, source, seconds, as_shipped_j, always_awake_j, ladder_j
FROM savings_by_hour WHERE {WITHIN}
"""  # noqa: S608


class Account(Struct, frozen=True, kw_only=True):
    """An answer. `names`: of a row's columns; `notes`: what its reader should know, in words."""

    names: list[str]
    rows: list[Row]
    total: Row
    notes: list[str]


Place = Callable[[datetime, str], str]
"""Under which name an hour (or, if that is the span, a day) is shown that began then."""


class Accounts:
    """Asks one database. Raises Unreachable for what no daemon writes."""

    def __init__(self, connection: sqlite3.Connection, prices: Prices, span: Span) -> None:
        self._connection, self._prices, self._span = connection, prices, span

    def energy(self, by: By) -> Account:
        match by:
            case "hour" | "day":
                return self._by_time(by)
            case "depth" | "line":
                return self._by_line(by)
            case "model":
                return self._by_request(("model",))
            case "client":
                return self._by_request(("door", "client"))

    def savings(self) -> Account:
        """Day by day: as vLLM ships, always awake without its boost, and as it was."""
        names = ("day", "engine", "device")
        found: defaultdict[tuple[str, ...], Saved] = defaultdict(Saved)
        total = Saved()
        for row, price in self._hours(SAVINGS, "day", _day):
            for saved in (found[_key(names, row)], total):
                saved.add(row, price)
        rows = [_keyed(names, key) | found[key].row() for key in sorted(found)]
        return Account(
            names=[*names, *total.row()], rows=rows, total=total.row(), notes=_vague(total.vague)
        )

    def _by_time(self, by: Literal["hour", "day"]) -> Account:
        place = _day if by == "day" else _hour
        names = (by, "engine", "device")
        found: defaultdict[tuple[str, ...], Stretch] = defaultdict(Stretch)
        total = Stretch()
        for row, price in self._hours(ENERGY, by, place):
            for stretch in (found[_key(names, row)], total):
                stretch.spent.add(row, price)
        for row, price in self._hours(REQUESTS.format(of="engine"), by, place):
            for stretch in (found[_key(names, row)], total):
                stretch.served.add(row, price)
        for row, _ in self._hours(WAKES, by, place):
            for stretch in (found[_key(names, row)], total):
                stretch.wakes += row["wakes"]
        rows = [_keyed(names, key) | found[key].row() for key in sorted(found)]
        return Account(
            names=[*names, *total.row()], rows=rows, total=total.row(), notes=_notes(total.spent)
        )

    def _by_line(self, by: Literal["depth", "line"]) -> Account:
        names = ("engine", "device", *(("depth", "line") if by == "depth" else ("line",)))
        found: defaultdict[tuple[str, ...], Spent] = defaultdict(lambda: Spent(one_line=True))
        total = Spent()
        for row, price in self._hours(ENERGY, "all", _nowhere):
            for spent in (found[_key(names, row)], total):
                spent.add(row, price)
        whole_j = total.bill.energy_j
        rows = [
            _keyed(names, key) | found[key].row(of_j=whole_j)
            for key in sorted(found, key=lambda key: _place(names, key))
        ]
        return Account(
            names=[*names, *total.row(of_j=whole_j)],
            rows=rows,
            total=total.row(of_j=whole_j),
            notes=_notes(total),
        )

    def _by_request(self, of: tuple[str, ...]) -> Account:
        names = ("engine", "device", *of)
        found: defaultdict[tuple[str, ...], Served] = defaultdict(Served)
        total = Served()
        for row, price in self._hours(REQUESTS.format(of=", ".join(of)), "all", _nowhere):
            for served in (found[_key(names, row)], total):
                served.add(row, price)
        rows = [_keyed(names, key) | found[key].row() for key in sorted(found)]
        return Account(
            names=[*names, *total.row()],
            rows=rows,
            total=total.row(),
            notes=_vague(total.full.vague),
        )

    def _hours(self, query: str, name: str, place: Place) -> Iterator[tuple[Row, Price]]:
        """What the query finds, added up where place, price and all words are the same.

        There may be a hundred thousand hours; what is left is a few rows for each place.
        """
        span = self._span.whole_days() if name == "day" else self._span
        cursor = self._connection.execute(
            query, {"day": span.from_day(), "hour": span.from_hour(), "end": span.end()}
        )
        _, _, *names = (column[0] for column in cursor.description)
        places = _Places(self._prices, place)
        sums: dict[tuple[Any, ...], list[Any]] = {}
        words = names.index("source") + 1
        for hour, kind, *values in cursor:
            key = (places[hour, kind], *values[:words])
            before = sums.get(key)
            if before is None:
                sums[key] = values[words:]
                continue
            for i, value in enumerate(values[words:]):
                if value is not None:
                    before[i] = value if before[i] is None else before[i] + value
        for ((at, price), *said), numbers in sums.items():
            yield {name: at, **dict(zip(names, (*said, *numbers), strict=True))}, price


class _Places(dict[tuple[str, str], tuple[str, Price]]):
    """(stored instant, span) -> where its row is shown, and what electricity cost."""

    def __init__(self, prices: Prices, place: Place) -> None:
        self._prices, self._place = prices, place

    def __missing__(self, key: tuple[str, str]) -> tuple[str, Price]:
        at, span = key
        try:
            start = hour_start(local(at))
        except (ValueError, OverflowError) as error:
            raise Unreachable(f"{at!r} in the ledger is no instant: it is damaged") from error
        self[key] = found = (self._place(start, span), self._prices.of(start, span))
        return found


def _day(start: datetime, _: str) -> str:
    return start.date().isoformat()


def _hour(start: datetime, span: str) -> str:
    """Of a day whose hours are no longer kept, its date."""
    return iso(start) if span == "hour" else _day(start, span)


def _nowhere(*_: object) -> str:
    return ""


def _key(names: tuple[str, ...], row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in names)


def _keyed(names: tuple[str, ...], key: tuple[str, ...]) -> Row:
    return dict(zip(names, key, strict=True))


def _place(names: tuple[str, ...], key: tuple[str, ...]) -> list[tuple[int, str]]:
    """Depths from shallow to deep, lines as a day shows them, all else by name."""
    known: Mapping[str, tuple[str, ...]] = {"depth": DEPTHS, "line": LINES}
    order = []
    for name, word in zip(names, key, strict=True):
        words = known.get(name, ())
        order.append((words.index(word) if word in words else len(words), word))
    return order


def _notes(spent: Spent) -> list[str]:
    notes = _vague(spent.bill.vague)
    whole_j, lost_j = spent.bill.energy_j or 0.0, spent.by_line.get("unattributed_j", 0.0)
    if whole_j > 0 and lost_j > UNATTRIBUTED * whole_j:
        notes.append(
            f"{lost_j / whole_j:.0%} of the joules are in no line for sure: while they were"
            " drawn, the floor was not known yet"
        )
    return notes


def _vague(vague: bool) -> list[str]:
    if not vague:
        return []
    return ["days whose hours are no longer kept are charged at the mean price of the day"]
