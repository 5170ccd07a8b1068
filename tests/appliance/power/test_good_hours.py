"""Which hours are good ones: by a table of a week, by what a topic says."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from appliance.power.good_hours import STALE_S, GoodHours, GoodTable, Signal
from appliance.tariff import rate
from tests.fake_clock import FakeClock

MONDAY = datetime(2026, 1, 5)  # noqa: DTZ001 - as a clock on the wall shows it


def table(lines: dict[str, float]) -> GoodTable:
    made = rate(lines)
    assert made is not None
    return GoodTable(made)


def good_hours(made: GoodTable, day: int = 0) -> list[int]:
    return [h for h in range(24) if made.good(MONDAY + timedelta(days=day, hours=h))]


def test_the_night_is_cheap() -> None:
    """Of two prices the lower one, however many hours it has."""
    assert good_hours(table({"22:00-06:00": 0.2, "06:00-22:00": 0.3})) == [*range(6), 22, 23]
    assert good_hours(table({"02:00-04:00": 0.2, "04:00-02:00": 0.3})) == [2, 3]


def test_the_best_quarter_of_many_prices() -> None:
    """Six hours of a day in which each has another price."""
    hours = {f"{h:02}:00-{h + 1:02}:00": 100.0 + (h * 7) % 24 for h in range(24)}

    assert len(good_hours(table(hours))) == 6


def test_each_day_has_its_own() -> None:
    """A cheap weekend does not make a whole week wait for it."""
    made = table(
        {"Mon-Fri 00:00-06:00": 0.3, "Mon-Fri 06:00-24:00": 0.4, "Sat,Sun 00:00-24:00": 0.1}
    )

    assert good_hours(made) == list(range(6))
    assert good_hours(made, day=5) == []


def test_a_flat_price_has_no_good_hour() -> None:
    made = rate(0.3)
    assert made is not None

    assert good_hours(GoodTable(made)) == []
    assert GoodTable(made).changes_in_s(MONDAY) == math.inf


def test_when_it_changes() -> None:
    """To the second, over midnight and over the end of the week."""
    made = table({"22:00-06:00": 0.2, "06:00-22:00": 0.3})

    assert made.changes_in_s(MONDAY + timedelta(hours=21, minutes=59, seconds=30)) == 30
    assert made.changes_in_s(MONDAY + timedelta(days=6, hours=23)) == 7 * 3600


@pytest.mark.parametrize(
    "payload", [b"", b"abc", b"null", b"true", b"[1]", b'"NaN"', b"1e999", b'{"x": 1}', b"\xff"]
)
def test_what_is_no_value_changes_nothing(payload: bytes) -> None:
    """The last good one holds."""
    signal = Signal("price", field="", at_most=0.2, clock=FakeClock())
    signal.take(b"0.1")

    signal.take(payload)
    assert signal.good


async def test_a_value_is_believed_for_a_while() -> None:
    """As a number or as text; up to the limit; not for ever."""
    clock = FakeClock()
    signal = Signal("price", field="now.value", at_most=0.2, clock=clock)
    hours = GoodHours(None, signal, clock)
    assert hours.why() == ""

    signal.take(b'{"now": {"value": "0.2"}}')
    assert hours.why() == "a good hour by price"
    assert hours.changes_in_s() == STALE_S
    await clock.advance(STALE_S)
    assert hours.why() == ""

    signal.take(b'{"now": {"value": 0.21}}')
    assert hours.why() == ""
    assert hours.changes_in_s() == math.inf
