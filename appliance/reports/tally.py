"""Adds up rows of the ledger: joules, what they cost, and how far to trust the sum. Pure.

What was not measured is None, never 0; a sum of which a part was not measured says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from appliance.tariff import DAY, Rate

Row = dict[str, Any]  # a value is text, a number or None
Trust = Literal["counter", "integral", "estimate", "low"]

J_PER_KWH = 3.6e6

UNMEASURED = 0.05
"""More of the time without a reading, and a sum is `low`."""
UNREAD = 0.1
"""So is one of whose joules more were not read: a learned power times the time."""


class Price(Struct, frozen=True):
    """Per kilowatt-hour, in some hour or day. None: nobody has said.

    vague  it is a day's mean, though it changed within the day
    """

    money: float | None = None
    co2_g: float | None = None
    vague: bool = False


class Prices:
    """What electricity cost, hour by hour. Equal prices are one object."""

    def __init__(self, money: Rate | None, co2: Rate | None) -> None:
        self._money, self._co2 = money, co2
        self._known: dict[tuple[int, int, int, str], Price] = {}
        self._same: dict[Price, Price] = {}

    def of(self, start: datetime, span: str) -> Price:
        """Of the hour or day that begins at `start`, local time."""
        key = (start.weekday(), start.hour, start.minute, span)
        if key not in self._known:
            found = self._find(start, DAY if span == "day" else 60)
            self._known[key] = self._same.setdefault(found, found)
        return self._known[key]

    def _find(self, start: datetime, minutes: int) -> Price:
        rates = [rate for rate in (self._money, self._co2) if rate is not None]
        return Price(
            money=None if self._money is None else self._money.mean(start, minutes),
            co2_g=None if self._co2 is None else self._co2.mean(start, minutes),
            vague=minutes == DAY and any(rate.changes(start, minutes) for rate in rates),
        )


class Bill:
    """Joules and what they cost."""

    def __init__(self) -> None:
        self.energy_j: float | None = None
        self.vague = False
        self._money: float | None = None
        self._co2_g: float | None = None

    def add(self, energy_j: float | None, price: Price) -> None:
        if energy_j is None:
            return
        kwh = energy_j / J_PER_KWH
        self.energy_j = (self.energy_j or 0.0) + energy_j
        self.vague |= price.vague
        if price.money is not None:
            self._money = (self._money or 0.0) + kwh * price.money
        if price.co2_g is not None:
            self._co2_g = (self._co2_g or 0.0) + kwh * price.co2_g

    def row(self) -> Row:
        kwh = None if self.energy_j is None else self.energy_j / J_PER_KWH
        return {"energy_j": self.energy_j, "kwh": kwh, "cost": self._money, "co2_g": self._co2_g}

    def per_1000(self, tokens: int | None) -> Row:
        return {
            "j_per_1000_tokens": per_1000(self.energy_j, tokens),
            "cost_per_1000_tokens": per_1000(self._money, tokens),
        }


class Spent:
    """What the meter that bills has counted.

    one_line  of one line, whose time is its own; else the time of requests and tails is
              counted with that of the awake engine's floor, in which they lie
    """

    def __init__(self, *, one_line: bool = False) -> None:
        self.bill = Bill()
        self.by_line: dict[str, float] = {}
        self._one_line = one_line
        self._seconds = self._unmeasured_s = 0.0
        self._sources: set[str] = set()
        self._unread_j = 0.0

    def add(self, row: Row, price: Price) -> None:
        line, energy_j, source = row["line"], row["energy_j"], row["source"]
        if self._one_line or line not in {"request", "tail"}:
            self._seconds += row["seconds"]
            self._unmeasured_s += row["seconds"] if energy_j is None else 0.0
        if energy_j is None:
            return
        self.bill.add(energy_j, price)
        self._sources.add(source)
        self._unread_j += energy_j if source == "table" else 0.0
        key = column(line, row["depth"])
        self.by_line[key] = self.by_line.get(key, 0.0) + energy_j

    def row(self, *, of_j: float | None) -> Row:
        """`of_j`: all of which this is a part."""
        energy_j = self.bill.energy_j
        share = energy_j / of_j if of_j and energy_j is not None else None
        return {**self.time(), **self.bill.row(), "share": share, **self.worth()}

    def time(self) -> Row:
        return {"seconds": self._seconds}

    def lines(self) -> Row:
        """Joules by what they went into; and those of them that were not read."""
        row: Row = {key: self.by_line.get(key) for key in COLUMNS.values()}
        return row | {"table_j": self._unread_j if "table" in self._sources else None}

    def worth(self) -> Row:
        return {
            "unmeasured_s": self._unmeasured_s,
            "source": named(self._sources),
            "trust": self._trust(),
        }

    def _trust(self) -> Trust | None:
        if self.bill.energy_j is None:
            return None
        gaps = self._unmeasured_s > UNMEASURED * self._seconds
        unread = self._unread_j > UNREAD * self.bill.energy_j
        return trust(self._sources, low=gaps or unread)


COLUMNS = {
    ("request", ""): "request_j",
    ("tail", ""): "tail_j",
    ("idle", "awake"): "awake_j",
    ("idle", ""): "rest_j",
    ("waking", ""): "waking_j",
    ("entering", ""): "entering_j",
    ("unattributed", ""): "unattributed_j",
}
"""Line and depth ('': any other) -> as which column of a day it is shown."""


def column(line: str, depth: str) -> str:
    return COLUMNS.get((line, depth)) or COLUMNS[line, ""]


Part = Literal["resting", "awake, idle", "not known for what", "waking, going to rest", "requests"]

PARTS: Mapping[Part, tuple[str, ...]] = {
    "resting": ("rest_j",),
    "awake, idle": ("awake_j",),
    "not known for what": ("unattributed_j",),
    "waking, going to rest": ("waking_j", "entering_j"),
    "requests": ("request_j", "tail_j"),
}
"""What a bar is made of, the floor first -> which columns of a day that is."""


def part_j(row: Mapping[str, Any], part: Part) -> float:
    """Joules of a bar's part; those below nothing, which the floor has got, have no length."""
    return max(0.0, sum(row.get(key) or 0.0 for key in PARTS[part]))


class Served:
    """Requests, as they are counted by the hour."""

    def __init__(self) -> None:
        self.full = Bill()
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.marginal_j: float | None = None
        self.marginal_tokens = self.full_tokens = 0
        self.sources: set[str] = set()

    def add(self, row: Row, price: Price) -> None:
        self.requests += row["requests"]
        self.prompt_tokens += row["prompt_tokens"] or 0
        self.completion_tokens += row["completion_tokens"] or 0
        self.full.add(row["full_j"], price)
        self.full_tokens += row["full_tokens"] or 0
        if row["marginal_j"] is not None:
            self.marginal_j = (self.marginal_j or 0.0) + row["marginal_j"]
            self.marginal_tokens += row["marginal_tokens"] or 0
        self.sources.update(separate(row["source"]))

    def row(self) -> Row:
        """Joules per 1 000 tokens are of those requests only whose joules are known."""
        per_token = self.full.per_1000(self.full_tokens)
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "marginal_j": self.marginal_j,
            "full_j": self.full.energy_j,
            **{key: value for key, value in self.full.row().items() if key != "energy_j"},
            "marginal_j_per_1000_tokens": per_1000(self.marginal_j, self.marginal_tokens),
            "full_j_per_1000_tokens": per_token["j_per_1000_tokens"],
            "cost_per_1000_tokens": per_token["cost_per_1000_tokens"],
            "source": named(self.sources),
            "trust": self.trust(),
        }

    def trust(self) -> Trust | None:
        if self.marginal_j is None and self.full.energy_j is None:
            return None
        unknown = self.completion_tokens - max(self.marginal_tokens, self.full_tokens)
        return trust(self.sources, low=unknown > UNMEASURED * self.completion_tokens)


class Stretch:
    """An hour or a day."""

    def __init__(self) -> None:
        self.spent, self.served = Spent(), Served()
        self.wakes = 0

    def row(self) -> Row:
        spent, served = self.spent, self.served
        return {
            **spent.time(),
            **spent.bill.row(),
            "requests": served.requests,
            "wakes": self.wakes,
            "prompt_tokens": served.prompt_tokens,
            "completion_tokens": served.completion_tokens,
            **spent.bill.per_1000(served.completion_tokens),
            **spent.lines(),
            **spent.worth(),
        }


THREE = ("as_shipped", "always_awake", "ladder")
"""What would have been drawn; the last is what was."""


class Saved:
    """The same time, three times."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._bills = {name: Bill() for name in THREE}
        self._unknown: set[str] = set()
        self._sources: set[str] = set()

    @property
    def vague(self) -> bool:
        return any(bill.vague for bill in self._bills.values())

    def add(self, row: Row, price: Price) -> None:
        self._seconds += row["seconds"] or 0.0
        self._sources.update(separate(row["source"]))
        for name, bill in self._bills.items():
            energy_j = row[f"{name}_j"]
            bill.add(energy_j, price)
            if energy_j is None:
                self._unknown.add(name)

    def row(self) -> Row:
        row: Row = {"seconds": self._seconds}
        for name, bill in self._bills.items():
            # A sum in which some hours are missing would be less than the other two.
            known = Bill() if name in self._unknown else bill
            row |= {f"{name}_{key.removeprefix('energy_')}": v for key, v in known.row().items()}
            measured = trust(self._sources, low=False) if name == "ladder" else "estimate"
            row[f"{name}_trust"] = None if known.energy_j is None else measured
        return row


def trust(sources: Iterable[str], *, low: bool) -> Trust:
    """One word for a sum from these sources, as docs/energy.md explains it."""
    found = set(sources)
    if "estimate" in found or not found & {"counter", "integral"}:
        return "estimate"
    if low:
        return "low"
    return "integral" if "integral" in found else "counter"


def named(sources: Iterable[str]) -> str | None:
    return ",".join(sorted(sources)) or None


def separate(sources: str | None) -> list[str]:
    return sources.split(",") if sources else []


def per_1000(amount: float | None, tokens: int | None) -> float | None:
    return 1000 * amount / tokens if amount is not None and tokens else None
