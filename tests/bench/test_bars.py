"""What bench.bars makes of a recorded run, of one cut short, and of one that fell short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.bars import BARS, judged, read
from bench.ladder import slope

GROWTH = "RSS a cycle beyond twice its standard error"
RECORDS = Path(__file__).parents[2] / "docs/measurements/raw"


@pytest.fixture
def told() -> dict[str, dict[str, Any]]:
    """The runs of 2026-11-22 on an H200, which measured RAM in another way: no growth of RSS."""
    return {
        run: read((RECORDS / f"2026-11-22-ladder-h200-{run}.jsonl").read_text())
        for run in ("eager", "fp8", "graphs")
    }


def short(told: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """What does not hold, by its name, and what it was."""
    return {bar.what: value for bar, value in judged(told) if bar.says(value) != "holds"}


def test_a_recorded_run(told: dict[str, dict[str, Any]]) -> None:
    """All of it holds but what was not measured yet; the figures are the record's."""
    assert short(told) == {GROWTH: None}

    values = {bar.what: value for bar, value in judged(told)}
    assert values["parked − floor"] == 0.165
    assert values["RAM held, parked"] == 2.576351
    assert values["the same, FP8"] == 0.555
    assert values["STOPPED → first token, eager, p50"] == 3.101


def test_a_run_that_fell_short(told: dict[str, dict[str, Any]]) -> None:
    park = told["graphs"]["park"]
    park["rss_mb_slope"] = {"per_cycle": 0.0078, "standard_error": 0.0007}
    park["different_answers"] = 2
    told["graphs"]["kill"]["core in parked"] |= {"left": [4711], "gpu_mb": 715}
    told["graphs"]["watts"]["parked_w"] += 3

    assert short(told) == {
        "parked − floor": 3.165,
        "wakes that failed or said something else": 1.0,
        GROWTH: 0.0064,
        "processes left after SIGKILL": 1.0,
        "GPU memory left after it (the driver's own: 3)": 100.0,
    }


def test_a_slope_within_its_error(told: dict[str, dict[str, Any]]) -> None:
    """Also one that is 0 and has none."""
    for line in ((-0.0014, 0.0007), (0.0, 0.0)):
        slope = dict(zip(("per_cycle", "standard_error"), line, strict=True))
        told["graphs"]["park"]["rss_mb_slope"] = slope

        assert short(told) == {}


def test_no_bar_holds_by_rounding(told: dict[str, dict[str, Any]]) -> None:
    """A run of 2026-11-23, which held as long as the slopes had four digits."""
    line = {"per_cycle": 0.001445, "standard_error": 0.000674}
    told["graphs"]["park"]["rss_mb_slope"] = line

    assert short(told) == {GROWTH: 0.000097}


def test_a_slope_has_digits_enough() -> None:
    """For a page of 4 KB in fifty cycles; of a line through all but the first five values."""
    assert slope([9.0] * 5 + [1 + 0.000012 * n for n in range(45)]) == {
        "per_cycle": 0.000012,
        "standard_error": 0.0,
    }


def test_an_engine_that_could_not_be_parked(told: dict[str, dict[str, Any]]) -> None:
    """What its LIGHT takes says nothing about PARKED."""
    told["fp8"]["park"]["depth"] = "light"

    assert short(told).keys() == {GROWTH, "the same, FP8"}


def test_a_run_that_was_cut_short(told: dict[str, dict[str, Any]]) -> None:
    """What its phases told counts; its last line is missing, and a phase that failed."""
    whole = (RECORDS / "2026-11-22-ladder-h200-graphs.jsonl").read_text().splitlines()
    lines = [line for line in whole[:-1] if json.loads(line).get("phase") != "turn"]
    failed = {"phase": "turn", "error": "RuntimeError()"}
    told["graphs"] = read("\n".join([*lines, json.dumps(failed), ""]))

    assert short(told).keys() == {
        GROWTH,
        "an arrival on the way down, longest",
        "processes left after SIGKILL",
        "GPU memory left after it (the driver's own: 3)",
    }


def test_nothing_was_run() -> None:
    assert short({}).keys() == {bar.what for bar in BARS}
