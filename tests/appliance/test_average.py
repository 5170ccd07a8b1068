"""A mean and a spread that follow what they are told."""

from __future__ import annotations

import random
import statistics

import pytest

from appliance.average import Average


def test_the_first_values_count_alike() -> None:
    """Up to `memory` it is the plain mean and the plain variance."""
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    average = Average(memory=5)
    for value in values:
        average.add(value)

    assert average.mean == pytest.approx(statistics.mean(values))
    assert average.variance == pytest.approx(statistics.pvariance(values))


def test_nine_of_ten_are_below_p90() -> None:
    """For what varies like most things do."""
    dice = random.Random(1)
    average = Average(memory=500)
    for _ in range(500):
        average.add(dice.gauss(10, 2))

    below = sum(dice.gauss(10, 2) < average.p90 for _ in range(10_000))
    assert 0.88 < below / 10_000 < 0.92


def test_it_forgets() -> None:
    """What was long ago counts for nothing."""
    average = Average(memory=10)
    for value in [100.0] * 50 + [1.0] * 200:
        average.add(value)

    assert average.mean == pytest.approx(1.0, abs=1e-3)
    assert average.deviation == pytest.approx(0.0, abs=0.1)
