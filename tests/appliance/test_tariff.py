"""What a kilowatt-hour costs at which minute of the week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import load
from appliance.errors import ConfigError
from appliance.tariff import DAYS, Rate, rate

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
TWO = {"06:00-22:00": 0.34, "22:00-06:00": 0.21}


def known(table: float | dict[str, float]) -> Rate:
    found = rate(table)
    assert found is not None
    return found


def test_flat() -> None:
    """The same at any time; 0 says that nobody knows."""
    assert {known(0.3).at(MONDAY + timedelta(hours=h)) for h in range(168)} == {0.3}
    assert rate(0.0) is None


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [(5, 59, 0.21), (6, 0, 0.34), (21, 59, 0.34), (22, 0, 0.21), (0, 0, 0.21)],
)
def test_by_time_of_day(hour: int, minute: int, expected: float) -> None:
    """A line's first minute belongs to it, its end does not; a night reaches into the morning."""
    for day in range(7):
        at = MONDAY + timedelta(days=day, hours=hour, minutes=minute)

        assert known(TWO).at(at) == expected


def test_by_day_of_the_week() -> None:
    """A night that begins on a Friday is Friday's until it ends."""
    found = known(
        {
            "Mon-Fri 06:00-22:00": 3,
            "mon-thu, sun 22:00-06:00": 2,
            "Fri 22:00-06:00": 1.5,
            "Sat,Sun 06:00-22:00": 1,
            "Sat 22:00-06:00": 0,
        }
    )
    hours = {"Fri": (4, 2), "Sat": (5, 1.5), "Sun": (6, 0.0)}

    assert [found.at(MONDAY + timedelta(days=d, hours=3)) for d, _ in hours.values()] == [
        expected for _, expected in hours.values()
    ]
    assert found.at(MONDAY + timedelta(hours=3)) == 2
    assert found.at(MONDAY + timedelta(days=5, hours=12)) == 1


def test_the_mean_of_an_hour_that_changes() -> None:
    """Half of it costs this, half that; the week begins again after Sunday."""
    found = known({"00:00-12:30": 1.0, "12:30-24:00": 3.0})

    assert found.mean(MONDAY + timedelta(hours=12), 60) == pytest.approx(2.0)
    assert found.mean(MONDAY - timedelta(minutes=30), 60) == pytest.approx(2.0)
    assert found.mean(MONDAY, 24 * 60) == pytest.approx((12.5 + 11.5 * 3) / 24)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"06:00-22:00": 1, "23:00-06:00": 2}, "Mon 22:00 to Mon 23:00 (and 6 more)"),
        ({"Mon-Sat 00:00-24:00": 1}, "nothing is said for Sun 00:00 to Sun 24:00"),
        ({"Tue-Sun 00:00-24:00": 1, "Mon 00:00-23:59": 1}, "Mon 23:59 to Mon 24:00"),
        ({}, "nothing is said for Mon 00:00 to Sun 24:00"),
        ({"00:00-24:00": 1, "Sun 23:00-01:00": 2}, "Sun 23:00 is in '00:00-24:00' and in"),
        ({"06:00-25:00": 1}, "there is no 25:00"),
        ({"06:61-07:00": 1}, "there is no 06:61"),
        ({"07:00-07:00": 1}, "no minute in it"),
        ({"24:00-06:00": 1}, "no minute in it"),
        ({"Moonday 06:00-07:00": 1}, "'Moonday' is no day"),
        ({"night": 1}, "'night' is not like"),
        ({"00:00-24:00": float("nan")}, "no price"),
        (float("inf"), "no price"),
    ],
)
def test_what_is_no_tariff(table: float | dict[str, float], words: str) -> None:
    """Is refused by the name of what is wrong."""
    with pytest.raises(ValueError) as raised:
        rate(table)

    assert words in str(raised.value)


@given(cuts=st.sets(st.integers(1, 24 * 60 - 1), min_size=1, max_size=6), days=st.booleans())
def test_what_has_no_hole_is_taken(cuts: set[int], days: bool) -> None:
    """Any partition of the day is a tariff; without one of its parts it never is."""
    ends = sorted(cuts)
    named = [f"{m // 60:02}:{m % 60:02}" for m in ends]
    pairs = list(zip(named, [*named[1:], named[0]], strict=True))
    lines = {f"{a}-{b}": float(i) for i, (a, b) in enumerate(pairs)} if len(ends) > 1 else {}
    lines = lines or {f"{named[0]}-24:00": 1.0, f"00:00-{named[0]}": 0.0}
    if days:
        lines = {f"{DAYS[0]}-{DAYS[-1]} {line}": value for line, value in lines.items()}

    assert len(known(lines).by_minute) == 7 * 24 * 60
    lines.popitem()
    with pytest.raises(ValueError, match="nothing is said"):
        rate(lines)


def test_a_configuration_with_a_hole(tmp_path: Path) -> None:
    """Is refused with the file, the key and the hole."""
    file = tmp_path / "wattnap.toml"
    file.write_text('[tariff]\nco2_g_per_kwh = { "06:00-22:00" = 380 }\n')
    with pytest.raises(ConfigError) as raised:
        load(file)

    assert str(file) in str(raised.value)
    assert "tariff.co2_g_per_kwh: nothing is said for Mon 00:00 to Mon 06:00" in str(raised.value)
