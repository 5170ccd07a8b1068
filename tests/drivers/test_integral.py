"""Joules from power: the sum, its gaps, and what is no power."""

from __future__ import annotations

import math

import pytest

from drivers.errors import BadReading
from drivers.integral import Integral


def integral() -> Integral:
    return Integral("sensor", max_w=100.0, max_gap_s=60.0)


def test_a_straight_line_between_two_readings() -> None:
    """10 W to 30 W over 2 s are 40 J."""
    summed = integral()
    summed.add(5.0, 10.0)

    assert summed.add(7.0, 30.0).energy_j == 40.0


def test_each_rail_for_itself() -> None:
    """The total is not their sum: one may feed another."""
    summed = integral()
    summed.add(0.0, 10.0, {"IN": 10.0, "CPU": 4.0})
    sample = summed.add(1.0, 10.0, {"IN": 10.0, "CPU": 6.0})

    assert (sample.energy_j, sample.energy_j_by_rail) == (10.0, {"IN": 10.0, "CPU": 5.0})


@pytest.mark.parametrize("power_w", [-0.1, 100.1, math.nan, math.inf])
def test_what_is_no_power(power_w: float) -> None:
    """Is refused, on a rail too, and the sum goes on from the last good reading."""
    summed = integral()
    summed.add(0.0, 10.0)
    with pytest.raises(BadReading, match="0 to 100 W"):
        summed.add(1.0, power_w)
    with pytest.raises(BadReading, match="CPU"):
        summed.add(1.0, 10.0, {"CPU": power_w})

    assert summed.add(2.0, 10.0).energy_j == 20.0


@pytest.mark.parametrize(
    ("at_s", "suspended_s", "epoch"),
    [(60.0, 0.0, 0), (60.1, 0.0, 1), (30.0, 20.0, 1), (-1.0, 0.0, 1)],
)
def test_nothing_is_guessed_across_a_gap(at_s: float, suspended_s: float, epoch: int) -> None:
    """Too long without a reading, a suspended box, a clock that went back: a new epoch."""
    summed = integral()
    summed.add(0.0, 10.0)
    sample = summed.add(at_s, 10.0, suspended_s=suspended_s)

    assert sample.epoch == epoch
    assert sample.energy_j == (600.0 if epoch == 0 else 0.0)
