"""When a kilowatt-hour is cheap, or green: by the tariff's table, or by what a topic says.

By the table it is good in the best quarter of each day, if that day has better and worse
hours. By a topic, whenever the latest value is at most what was configured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from appliance.clock import Clock
from appliance.tariff import DAY, WEEK, Rate, minute_of_week

log = logging.getLogger(__name__)

BEST = 0.25
"""Of a day."""
STALE_S = 7200.0
"""What a topic said is believed for so long: prices and grids have hours."""


class GoodTable:
    """The good minutes of a week, local time."""

    def __init__(self, rate: Rate) -> None:
        days = [rate.by_minute[start : start + DAY] for start in range(0, WEEK, DAY)]
        self._good = [value <= limit for day in days for limit in (_limit(day),) for value in day]

    def good(self, local: datetime) -> bool:
        return self._good[minute_of_week(local)]

    def changes_in_s(self, local: datetime) -> float:
        """Seconds until it becomes good, or ceases to be; math.inf: it stays as it is."""
        first = minute_of_week(local)
        for minutes in range(1, WEEK + 1):
            if self._good[(first + minutes) % WEEK] != self._good[first]:
                return minutes * 60.0 - local.second - local.microsecond / 1e6
        return math.inf


class Signal:
    """A value that somebody publishes: a price, grams of CO2. Satisfies a feed's Listener.

    topic    of the messages
    field    of a JSON object in them, "a.b" for one within another; "": a number alone
    at_most  up to there it is good
    changed  called after each message
    """

    def __init__(self, topic: str, *, field: str, at_most: float, clock: Clock) -> None:
        self.topic = topic
        self.changed: Callable[[], None] = lambda: None
        self._path = field.split(".") if field else []
        self._at_most, self._clock = at_most, clock
        self._value: float | None = None
        self._said_s = -math.inf
        self._complained = False

    def take(self, payload: bytes, *, retained: bool = False) -> None:
        """A message has come. Never raises.

        `retained`: the broker had kept it, and it holds until another comes.
        """
        del retained
        try:
            self._value = self._read(payload)
        except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError) as error:
            if not self._complained:
                log.warning("%s: no value in a message (%s); it is left out", self.topic, error)
                self._complained = True
            return
        self._complained = False
        self._said_s = self._clock.now()
        self.changed()

    @property
    def good(self) -> bool:
        return self._value is not None and self._value <= self._at_most and self.ends_in_s > 0

    @property
    def ends_in_s(self) -> float:
        """Seconds until it is believed no longer."""
        return self._said_s + STALE_S - self._clock.now()

    def _read(self, payload: bytes) -> float:
        said = msgspec.json.decode(payload)
        for name in self._path:
            said = said[name]
        # "0.21" as text is what many publish; true is none.
        value = float(said) if isinstance(said, int | float | str) else math.nan
        if isinstance(said, bool) or not math.isfinite(value):
            raise ValueError(f"{said!r} is no number")
        return value


class GoodHours:
    """Both together; either may be absent."""

    def __init__(self, table: GoodTable | None, signal: Signal | None, clock: Clock) -> None:
        self._table, self.signal, self._clock = table, signal, clock

    def why(self) -> str:
        """In words for people; "" if it is none now, or nobody says."""
        if self._table is not None and self._table.good(self._local()):
            return "a good hour by the tariff"
        if self.signal is not None and self.signal.good:
            return f"a good hour by {self.signal.topic}"
        return ""

    def changes_in_s(self) -> float:
        """Seconds until that may be another; math.inf: only once somebody says so."""
        by_table = self._table.changes_in_s(self._local()) if self._table else math.inf
        by_signal = self.signal.ends_in_s if self.signal and self.signal.good else math.inf
        return max(1.0, min(by_table, by_signal))

    def _local(self) -> datetime:
        return self._clock.utc().astimezone()


def _limit(day: Sequence[float]) -> float:
    """Up to there it is good on that day."""
    better = [value for value in day if value < max(day)]
    return min(sorted(day)[int(BEST * DAY) - 1], max(better, default=-math.inf))
