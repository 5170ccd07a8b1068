"""What each policy costs on the shipped traces: as it was, and within its bars."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import pytest

from tests.golden import FILE, simulated

CASES = json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def now() -> dict[str, list[dict[str, Any]]]:  # JSON
    return simulated()


@pytest.mark.parametrize("case", CASES)
def test_results_are_as_they_were(case: str, now: dict[str, list[dict[str, Any]]]) -> None:
    """To a millionth. `python -m tests.golden --write` after a change that is meant."""
    assert [row["trace"] for row in now[case]] == [row["trace"] for row in CASES[case]]
    for found, kept in zip(now[case], CASES[case], strict=True):
        assert list(found["policies"]) == list(kept["policies"])
        for name, figures in kept["policies"].items():
            got = found["policies"][name]

            assert nulls(got) == nulls(figures), (found["trace"], name)
            assert numbers(got) == pytest.approx(numbers(figures), rel=1e-6, abs=2e-6)


def nulls(figures: dict[str, float | None]) -> set[str]:
    return {name for name, value in figures.items() if value is None}


def numbers(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def test_every_case_is_kept(now: dict[str, list[dict[str, Any]]]) -> None:
    """The file was written by this version's list of cases."""
    assert list(now) == list(CASES)


@pytest.mark.parametrize(
    ("lambda_w", "base", "most_of_base"),
    [(0, "best_fixed", 1.05), (100, "best_fixed", 1.05), (1000, "breakeven", 1.0)],
)
def test_learned_keeps_its_bars(
    lambda_w: int, base: str, most_of_base: float, now: dict[str, list[dict[str, Any]]]
) -> None:
    """On no trace much dearer than breakeven; and its median close to the best in hindsight."""
    ratios = [
        {name: figures["cost_ratio"] for name, figures in row["policies"].items()}
        for row in now[f"two rungs, {lambda_w} W"]
    ]
    long = {"0004", "0020", "0367", "0381", "0714", "_A"}  # 200 idle periods and more
    for row, ratio in zip(now[f"two rungs, {lambda_w} W"], ratios, strict=True):
        most = 1.02 if row["trace"].endswith(tuple(long)) else 1.05

        assert ratio["learned"] <= most * ratio["breakeven"], row["trace"]
    middle = {name: median(ratio[name] for ratio in ratios) for name in ratios[0]}

    assert middle["learned"] <= most_of_base * middle[base]
