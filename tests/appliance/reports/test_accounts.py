"""What the ledger says about a stretch of time: sums, money, days of any length, and trust."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Unreachable
from appliance.reports.accounts import Account, Accounts, By
from appliance.reports.tally import Prices
from appliance.reports.wall import Span
from appliance.storage.reading import opened
from appliance.tariff import rate
from tests.appliance.ledgers import BERLIN, a_week, hours, ledger

LINES = ("request", "tail", "idle", "entering", "waking", "unattributed")
NIGHT = {"06:00-22:00": 0.40, "22:00-06:00": 0.20}


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time, for this process."""
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def account(
    path: Path,
    by: By = "day",
    since: str | None = None,
    until: str | None = None,
    *,
    price: float | dict[str, float] = 0.0,
    co2: float | dict[str, float] = 0.0,
) -> Account:
    ends = [
        None if at is None else datetime.fromisoformat(at).astimezone() for at in (since, until)
    ]
    span = Span(*ends)
    with opened(path) as connection:
        return Accounts(connection, Prices(rate(price), rate(co2)), span).energy(by)


def saved(path: Path) -> Account:
    with opened(path) as connection:
        return Accounts(connection, Prices(rate(0.3), None), Span()).savings()


Drawn = tuple[int, str, str, str, float, float | None]
DRAWN: st.SearchStrategy[Drawn] = st.tuples(
    st.integers(0, 80),
    st.sampled_from(LINES),
    st.sampled_from(("awake", "light", "off")),
    st.sampled_from(("counter", "integral", "estimate", "table")),
    st.floats(0, 3600),
    st.none() | st.floats(-10, 1e6),
)


def place(drawn: Drawn) -> tuple[int, str, str, str]:
    """Of which the table has one row."""
    at, line, depth, source, _, energy_j = drawn
    return at, line, depth, "none" if energy_j is None else source


@settings(max_examples=12, deadline=None)
@given(drawn=st.lists(DRAWN, max_size=40, unique_by=place))
@pytest.mark.parametrize("by", ["hour", "day", "depth", "line"])
def test_every_joule_is_shown_once(
    tmp_path_factory: pytest.TempPathFactory, by: By, drawn: list[Drawn]
) -> None:
    """However it is divided, the rows add up to the total, and that to what was booked."""
    path = tmp_path_factory.mktemp("sums") / "wattnap.db"
    started = hours("2026-03-28T12:00:00Z", 81)  # a day of 23 hours among them
    with ledger(path) as made:
        for at, line, depth, source, seconds, energy_j in drawn:
            made.energy(started[at], line, depth, seconds, energy_j, source=source)
    found = account(path, by, price=NIGHT)
    booked = [row[5] for row in drawn if row[5] is not None]
    shown = [row["energy_j"] for row in found.rows if row["energy_j"] is not None]

    for told in (found.total["energy_j"], sum(shown) if shown else None):
        assert told == (pytest.approx(sum(booked)) if booked else None)
    assert sum(r["cost"] or 0 for r in found.rows) == pytest.approx(found.total["cost"] or 0)


@pytest.mark.parametrize(
    ("day", "midnight", "length"),
    [
        ("2026-03-28", "2026-03-27T23:00:00Z", 24),
        ("2026-03-29", "2026-03-28T23:00:00Z", 23),
        ("2026-10-25", "2026-10-24T22:00:00Z", 25),
    ],
)
def test_a_day_has_as_many_hours_as_the_wall_shows(
    tmp_path: Path, day: str, midnight: str, length: int
) -> None:
    """The days on which clocks are changed are one day each, whole."""
    with ledger(tmp_path / "wattnap.db") as made:
        for hour in hours(midnight, length):
            made.energy(hour)
    found = account(tmp_path / "wattnap.db")

    assert [(row["day"], row["seconds"]) for row in found.rows] == [(day, length * 3600)]


def test_a_night_tariff_when_the_clock_is_changed(tmp_path: Path) -> None:
    """The night of the change is an hour longer, and so is the cheap price."""
    with ledger(tmp_path / "wattnap.db") as made:
        for hour in hours("2026-10-24T22:00:00Z", 25):
            made.energy(hour, energy_j=3.6e6)
    found = account(tmp_path / "wattnap.db", price=NIGHT)

    assert found.total["kwh"] == pytest.approx(25)
    assert found.total["cost"] == pytest.approx(16 * 0.40 + 9 * 0.20)


def test_two_hours_of_one_name(tmp_path: Path) -> None:
    """2 o'clock comes twice in October; each has its own row."""
    with ledger(tmp_path / "wattnap.db") as made:
        for hour in hours("2026-10-25T00:00:00Z", 2):
            made.energy(hour)
    found = account(tmp_path / "wattnap.db", "hour")

    assert [row["hour"][11:13] for row in found.rows] == ["00", "01"]


@pytest.mark.parametrize(
    ("by", "since", "until", "expected"),
    [
        ("hour", "2026-03-03T10:30", "2026-03-03T12:30", [9, 10, 11]),  # UTC: an hour less
        ("hour", "2026-03-03T10:00", "2026-03-03T12:00", [9, 10]),
        ("day", "2026-03-03T10:30", "2026-03-05T00:00", ["2026-03-03", "2026-03-04"]),
        ("day", "2026-03-08", None, ["2026-03-08"]),
        ("day", None, "2026-03-03", ["2026-03-02"]),
    ],
)
def test_whole_hours_and_whole_days(
    tmp_path: Path, by: By, since: str | None, until: str | None, expected: list[object]
) -> None:
    """An hour of which a part is asked for counts; by day, the first day counts from midnight."""
    with ledger(tmp_path / "wattnap.db") as made:
        a_week(made)
    found = account(tmp_path / "wattnap.db", by, since, until)
    told = [row["day"] if by == "day" else int(row["hour"][11:13]) for row in found.rows]

    assert told == expected
    if by == "day":
        assert all(row["seconds"] == pytest.approx(86400) for row in found.rows)


def test_what_was_not_measured(tmp_path: Path) -> None:
    """Is None, never 0; its time is told, and a day with too much of it is low."""
    with ledger(tmp_path / "wattnap.db") as made:
        a_week(made)
    week = account(tmp_path / "wattnap.db")
    afternoon = account(tmp_path / "wattnap.db", "line", "2026-03-04T12:00", "2026-03-04T13:00")
    by_line = {row["line"]: row for row in afternoon.rows}
    days = {row["day"]: row for row in week.rows}

    assert (days["2026-03-04"]["trust"], days["2026-03-05"]["trust"]) == ("low", "counter")
    assert days["2026-03-04"]["unmeasured_s"] == pytest.approx(5 * 2390)
    assert by_line["idle"]["unmeasured_s"] == pytest.approx(2390)
    assert by_line["idle"]["energy_j"] == pytest.approx(79 * 1200)


def test_no_meter(tmp_path: Path) -> None:
    """Then there are requests and seconds, and no joule, no cost and no trust."""
    hour = "2026-03-03T10:00:00.000Z"
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy(hour, energy_j=None)
        made.requests(
            hour, source="none", marginal_j=None, full_j=None, marginal_tokens=0, full_tokens=0
        )
    (day,) = account(tmp_path / "wattnap.db", price=0.3, co2=400).rows
    (client,) = account(tmp_path / "wattnap.db", "client", price=0.3).rows

    assert (day["requests"], day["completion_tokens"], day["seconds"]) == (10, 1000, 3600)
    for key in ("energy_j", "kwh", "cost", "co2_g", "j_per_1000_tokens", "source", "trust"):
        assert day[key] is None
    for key in ("full_j", "cost", "full_j_per_1000_tokens", "source", "trust"):
        assert client[key] is None


def test_nothing_at_all(tmp_path: Path) -> None:
    """No row, and a total without joules."""
    with ledger(tmp_path / "wattnap.db"):
        pass
    for by in ("hour", "day", "depth", "line", "model", "client"):
        found = account(tmp_path / "wattnap.db", by)

        assert found.rows == []
        assert found.names[0] in {"hour", "day", "engine"}
        assert found.total["trust"] is None


def test_cost_and_co2(tmp_path: Path) -> None:
    """Each hour at its price; per 1 000 tokens, too."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("2026-03-03T20:00:00.000Z", energy_j=3.6e6)  # 21 h in Berlin
        made.energy("2026-03-03T21:00:00.000Z", energy_j=7.2e6)
        made.requests("2026-03-03T20:00:00.000Z", completion_tokens=5000)
    found = account(
        tmp_path / "wattnap.db", price=NIGHT, co2={"00:00-21:30": 300, "21:30-24:00": 500}
    )
    (day,) = found.rows

    assert day["cost"] == pytest.approx(0.40 + 2 * 0.20)
    assert day["co2_g"] == pytest.approx(400 + 2 * 500)
    assert day["j_per_1000_tokens"] == pytest.approx(10.8e6 / 5)
    assert day["cost_per_1000_tokens"] == pytest.approx(0.80 / 5)


def test_a_day_whose_hours_are_gone(tmp_path: Path) -> None:
    """It costs the day's mean price, and that is said; by the hour it is shown as a day."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("2026-03-01T23:00:00.000Z", energy_j=3.6e6, seconds=86400, span="day")
        made.requests("2026-03-01T23:00:00.000Z", span="day")
        made.energy("2026-03-02T23:00:00.000Z")
    days = account(tmp_path / "wattnap.db", since="2026-03-02T15:00", price=NIGHT)
    by_hour = account(tmp_path / "wattnap.db", "hour", "2026-03-02T15:00", price=NIGHT)
    flat = account(tmp_path / "wattnap.db", price=0.3)

    assert days.rows[0]["cost"] == pytest.approx((16 * 0.40 + 8 * 0.20) / 24)
    assert [row["requests"] for row in days.rows] == [10, 0]
    assert [row["hour"] for row in by_hour.rows] == ["2026-03-02", "2026-03-02T23:00:00.000Z"]
    assert "mean price" in days.notes[0]
    assert flat.notes == []


def test_clocks_that_jumped(tmp_path: Path) -> None:
    """A box without a clock began in 1970, and an hour went by twice: all of it is shown."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("1970-01-01T00:00:00.000Z", energy_j=1000.0, seconds=120)
        made.energy("2026-03-03T10:00:00.000Z", energy_j=72_000.0, seconds=7200)
        made.edge("1970-01-01T00:01:00.000Z", "off", "awake", ended_at="2026-03-03T10:00:00.000Z")
    found = account(tmp_path / "wattnap.db")

    assert [(row["day"], row["energy_j"]) for row in found.rows] == [
        ("1970-01-01", 1000.0),
        ("2026-03-03", 72_000.0),
    ]
    assert found.rows[0]["wakes"] == 1
    assert found.rows[1]["seconds"] == 7200


def test_requests_that_are_not_final_count(tmp_path: Path) -> None:
    """They are in their hour, with what is known of them."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("2026-03-03T10:00:00.000Z")
        made.requests("2026-03-03T10:00:00.000Z")
        made.request(
            "r-1", "2026-03-03T10:30:00.000Z", final=0, full_j=None, wake_j=None, tail_j=None
        )
    (day,) = account(tmp_path / "wattnap.db").rows
    (model,) = account(tmp_path / "wattnap.db", "model").rows

    assert day["requests"] == 11
    assert (model["marginal_j"], model["full_j"]) == (990.0, 1000.0)
    assert model["full_j_per_1000_tokens"] == pytest.approx(1000.0)


def test_refused_requests_have_cost_nothing(tmp_path: Path) -> None:
    """They are in no row of joules."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.requests("2026-03-03T10:00:00.000Z", state="refused", model="other")

    assert account(tmp_path / "wattnap.db", "model").rows == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"counter": 100}, "counter"),
        ({"counter": 100, "integral": 1}, "integral"),
        ({"counter": 100, "estimate": 1}, "estimate"),
        ({"counter": 100, "table": 9}, "counter"),
        ({"counter": 100, "table": 20}, "low"),
        ({"table": 100}, "estimate"),
    ],
)
def test_trust(tmp_path: Path, sources: dict[str, float], expected: str) -> None:
    """The worst of what a sum is made of, but a tenth may be reckoned."""
    with ledger(tmp_path / "wattnap.db") as made:
        for source, energy_j in sources.items():
            made.energy("2026-03-03T10:00:00.000Z", energy_j=energy_j, source=source)
    (day,) = account(tmp_path / "wattnap.db").rows

    assert day["trust"] == expected
    assert day["source"] == ",".join(sorted(sources))


def test_what_nobody_knows_the_use_of_is_noted(tmp_path: Path) -> None:
    """More than a twentieth in no line for sure."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("2026-03-03T10:00:00.000Z", energy_j=90.0)
        made.energy("2026-03-03T10:00:00.000Z", "unattributed", "awake", 10, 10.0)
    (note,) = account(tmp_path / "wattnap.db").notes

    assert note.startswith("10%")


def test_several_engines_are_told_apart(tmp_path: Path) -> None:
    """By each: one row for each device."""
    with ledger(tmp_path / "wattnap.db") as made:
        for device in ("GPU-1", "GPU-2"):
            made.energy("2026-03-03T10:00:00.000Z", device=device)
            made.requests("2026-03-03T10:00:00.000Z", device=device)
    for by in ("hour", "day", "depth", "line", "model", "client"):
        found = account(tmp_path / "wattnap.db", by)

        assert [row["device"] for row in found.rows] == ["GPU-1", "GPU-2"]


def test_savings(tmp_path: Path) -> None:
    """Served joules, and the floor for all the time; with the boost, that for all the time, too."""
    with ledger(tmp_path / "wattnap.db") as made:
        a_week(made)
    day = saved(tmp_path / "wattnap.db").rows[0]
    served_j = 14 * (600 * 200 + 600)
    always_j = served_j + 79 * 86400

    assert day["always_awake_j"] == pytest.approx(always_j)
    assert day["as_shipped_j"] == pytest.approx(always_j + 41 * 86400)
    assert day["ladder_j"] < day["always_awake_j"]
    assert day["ladder_cost"] == pytest.approx(0.3 * day["ladder_kwh"])
    assert [day[f"{name}_trust"] for name in ("as_shipped", "always_awake", "ladder")] == [
        "estimate",
        "estimate",
        "counter",
    ]


def test_savings_that_nobody_knows(tmp_path: Path) -> None:
    """Without a floor there is nothing to compare with; without a boost, one column less."""
    for learned, known in ((False, [None, None]), (True, [None, "estimate"])):
        path = tmp_path / f"{learned}.db"
        with ledger(path) as made:
            made.energy("2026-03-03T10:00:00.000Z")
            if learned:
                made.learned("floor_w", 79.0, of="awake")
        total = saved(path).total

        assert [total[f"{name}_trust"] for name in ("as_shipped", "always_awake")] == known
        assert (total["as_shipped_j"], total["ladder_trust"]) == (None, "counter")


def test_an_hour_that_is_none(tmp_path: Path) -> None:
    """A row that no daemon writes is told as damage, not shown as a day."""
    with ledger(tmp_path / "wattnap.db") as made:
        made.energy("2026-13-45T99:00:00.000Z")
    with pytest.raises(Unreachable, match="damaged"):
        account(tmp_path / "wattnap.db")
