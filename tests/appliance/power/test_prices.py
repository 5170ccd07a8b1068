"""From what was measured to the rungs that a policy sees."""

from __future__ import annotations

import pytest

from appliance.average import Average
from appliance.power.ladder import AWAKE, RESTS
from appliance.power.price_table import price_table
from appliance.power.prices import MEMORY, Price, Prices, rungs
from policies.ladder import Depth

GUESSES = (AWAKE, *RESTS)


def seen(*values: float) -> Average:
    average = Average(memory=MEMORY)
    for value in values:
        average.add(value)
    return average


def measured(**watts: float | None) -> Prices:
    """By the names of depths; all moves take 1 s and 200 J up, 1 s and 100 J down."""
    return {
        Depth[name.upper()]: Price(
            depth=Depth[name.upper()],
            at="2026-01-01T00:00:00.000Z",
            source="counter",
            power_w=power_w,
            spread_w=0.2,
            enter_s=seen(1.0, 1.0),
            enter_j=seen(100.0),
            wake_s=seen(0.8, 1.2),
            wake_j=seen(200.0),
        )
        for name, power_w in watts.items()
    }


def powers(prices: Prices) -> list[float]:
    return [rung.power_w for rung in rungs(prices, GUESSES)]


def test_nothing_measured() -> None:
    """Guesses, marked so."""
    assert rungs({}, GUESSES) == GUESSES


def test_watts_that_were_measured() -> None:
    prices = measured(awake=80.0, light=70.0, parked=60.0, stopped=50.0, off=40.0)

    assert powers(prices) == [80.0, 70.0, 60.0, 50.0, 40.0]


@pytest.mark.parametrize(
    ("light", "seen_as"),
    [(79.5, 80.0), (78.5, 80.0), (78.3, 78.3), (85.0, 80.0)],
    ids=["less than a watt", "less than 2 %", "more", "more than above"],
)
def test_a_saving_that_cannot_be_seen_is_none(light: float, seen_as: float) -> None:
    """And the rung below it is compared with the last that saved."""
    prices = measured(awake=80.0, light=light, parked=60.0, stopped=60.0, off=60.0)

    assert powers(prices)[:3] == [80.0, seen_as, 60.0]


def test_what_scatters_must_differ_by_more() -> None:
    """Twice the spread of both."""
    prices = measured(awake=80.0, light=75.0, parked=60.0, stopped=60.0, off=60.0)
    prices[Depth.LIGHT].spread_w = 3.0

    assert powers(prices)[1] == 80.0


def test_a_rung_that_was_not_measured_promises_nothing() -> None:
    """It draws what the one above does, whatever the guess was."""
    prices = measured(awake=12.0, light=None, parked=8.0)

    assert powers(prices) == [12.0, 12.0, 8.0, 8.0, 8.0]
    assert powers(measured(parked=8.0)) == [8.0] * 5


def test_joules_are_those_above_the_deepest_rung() -> None:
    """Never less than none, however much a meter is off."""
    prices = measured(awake=80.0, light=80.0, parked=60.0, stopped=50.0, off=40.0)
    parked = rungs(prices, GUESSES)[2]

    assert (parked.enter_j, parked.wake_j) == (60.0, 160.0)
    assert parked.wake_s == pytest.approx(1.0 + 1.2816 * 0.2, rel=0.01)
    prices[Depth.OFF].power_w = 1.0
    cheap = measured(awake=500.0, light=500.0, parked=500.0, stopped=500.0, off=400.0)
    assert rungs(cheap, GUESSES)[2].wake_j == 0.0


def test_when_a_rung_pays() -> None:
    """The way there and back, less what coming back from above costs, by the watts saved."""
    prices = measured(awake=80.0, light=80.0, parked=60.0, stopped=50.0, off=40.0)
    ladder = rungs(prices, GUESSES)

    rows = price_table(prices, ladder)
    # 60 J of the edge above the floor; the seconds of both edges, in which nothing is saved yet.
    assert rows[2]["breakeven_s"] == pytest.approx((60.0 - 20.0 * 2.0 + 40.0 * 1.0) / 20.0)
    assert [row["breakeven_s"] is None for row in rows] == [True, True, False, False, False]
    assert rows[0]["saves_w"] is None
