"""What bench.bars makes of a recorded run, of one cut short, and of one that fell short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.bars import BARS, judged, read

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
    return {bar.what: value for bar, value in judged(told) if value is None or value > bar.most}


def test_a_recorded_run(told: dict[str, dict[str, Any]]) -> None:
    """All of it holds but what was not measured yet; the figures are the record's."""
    assert short(told) == {"RSS a cycle, over twice its standard error": None}

    values = {bar.what: value for bar, value in judged(told)}
    assert values["parked − floor"] == 0.165
    assert values["RAM held, parked"] == 2.576
    assert values["the same, FP8"] == 0.555
    assert values["STOPPED → first token, eager, p50"] == 3.101


def test_a_run_that_fell_short(told: dict[str, dict[str, Any]]) -> None:
    park = told["graphs"]["park"]
    park["rss_mb_slope"] = {"per_cycle": 0.0078, "standard_error": 0.0007}
    park["different_answers"] = 2
    told["graphs"]["kill"]["core in parked"]["left"] = [4711]
    told["graphs"]["watts"]["parked_w"] += 3

    assert short(told) == {
        "parked − floor": 3.165,
        "wakes that failed or said something else": 1.0,
        "RSS a cycle, over twice its standard error": 5.571,
        "processes left after SIGKILL": 1.0,
    }


def test_a_run_that_was_cut_short(told: dict[str, dict[str, Any]]) -> None:
    """What its phases told counts; its last line is missing, and a phase that failed."""
    whole = (RECORDS / "2026-11-22-ladder-h200-graphs.jsonl").read_text().splitlines()
    lines = [line for line in whole[:-1] if json.loads(line).get("phase") != "turn"]
    failed = {"phase": "turn", "error": "RuntimeError()"}
    told["graphs"] = read("\n".join([*lines, json.dumps(failed), ""]))

    assert short(told).keys() == {
        "RSS a cycle, over twice its standard error",
        "an arrival on the way down, longest",
        "processes left after SIGKILL",
    }


def test_nothing_was_run() -> None:
    assert short({}).keys() == {bar.what for bar in BARS}
