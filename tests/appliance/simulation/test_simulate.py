"""`wattnap simulate` as a user runs it: what it prints, and what it does with bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from appliance.power import prices, visits
from appliance.simulation import ladder_file
from appliance.simulation import simulate as simulation
from appliance.simulation.simulate import Terms, medians, promises
from tests.appliance.commands import wattnap, write_config
from tests.appliance.ledgers import ledger
from tests.appliance.power.test_prices import measured
from tests.golden import FIVE_RUNGS

TWO = """
title = "two rungs"
[[rung]]
depth = "awake"
power_w = 40
[[rung]]
depth = "off"
power_w = 0
wake_s = 10
wake_j = 7200
"""
DAY = "t_s,service_s\n0,10\n110,10\n520,10\n1530,10\n"
"""Idle for 100, 400 and 1 000 s."""

FIGURES = {
    *("energy_j", "of_always_on", "cost_j", "cost_ratio"),
    *("cold_share", "wait_p99_s", "wakes_per_day"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a configuration, a trace and prices; no daemon has run here."""
    (tmp_path / "two.toml").write_text(TWO)
    (tmp_path / "day.csv").write_text(DAY)
    write_config(tmp_path)
    return tmp_path


def simulated(place: Path, *arguments: str) -> CompletedProcess[str]:
    return wattnap("simulate", *arguments, config=place / "wattnap.toml")


def told(result: CompletedProcess[str]) -> Any:  # JSON
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_json_is_one_line_with_these_figures_and_no_others(place: Path) -> None:
    """A list with one object for each trace, in the order in which they were named."""
    day, rungs = str(place / "day.csv"), str(place / "two.toml")
    other = str(place / "other.csv")
    (place / "other.csv").write_text("t_s\n5\n")
    found = told(simulated(place, "--trace", day, "--trace", other, "--rungs", rungs, "--json"))

    assert [set(row) for row in found] == [{"trace", "rungs", "policies"}] * 2
    assert [(row["trace"], row["rungs"]) for row in found] == [(day, rungs), (other, rungs)]
    assert list(found[0]["policies"]) == [
        *("always_on", "five_minutes", "at_once", "best_fixed"),
        *("breakeven", "learned"),
    ]
    assert {frozenset(figures) for row in found for figures in row["policies"].values()} == {
        frozenset(FIGURES)
    }


def test_figures_are_those_that_a_pencil_finds(place: Path) -> None:
    """40 W awake, 7 200 J and 10 s to wake, a waiting person worth 100 W."""
    day, rungs = str(place / "day.csv"), str(place / "two.toml")
    arguments = ("--trace", day, "--rungs", rungs, "--lambda-w", "100", "--json")
    (found,) = told(simulated(place, *arguments))
    always, five, once = (
        found["policies"][name] for name in ("always_on", "five_minutes", "at_once")
    )
    least_j = 100 * 40 + 2 * (7200 + 1000)

    assert always == {
        "energy_j": 60_000.0,
        "of_always_on": 1.0,
        "cost_j": 60_000.0,
        "cost_ratio": round(60_000 / least_j, 6),
        "cold_share": 0.0,
        "wait_p99_s": 0.0,
        "wakes_per_day": 0.0,
    }
    assert five["energy_j"] == 100 * 40 + 2 * (300 * 40 + 7200)
    assert five["cost_j"] == five["energy_j"] + 2 * 10 * 100
    assert (five["cold_share"], five["wait_p99_s"]) == (0.5, 10.0)
    assert five["wakes_per_day"] == round(2 * 86400 / 1540, 4)
    assert once["energy_j"] == 3 * 7200


def test_waiting_may_be_worth_nothing(place: Path) -> None:
    """Then cost is energy above the deepest rung's, and the configured worth does not count."""
    day, rungs = str(place / "day.csv"), str(place / "two.toml")
    arguments = ("--trace", day, "--rungs", rungs, "--lambda-w", "0", "--json")
    (found,) = told(simulated(place, *arguments))

    assert {row["cost_j"] - row["energy_j"] for row in found["policies"].values()} == {0.0}


def test_people_get_tables_and_what_holds_for_any_trace(place: Path) -> None:
    """Each trace, the medians, and the bound."""
    day = str(place / "day.csv")
    rungs = str(place / "two.toml")
    result = simulated(place, "--trace", day, "--trace", day, "--rungs", rungs)

    assert result.returncode == 0
    assert result.stdout.startswith("two rungs · a waiting person is worth 100 W\n")
    assert "3 idle periods in 0.4 h" in result.stdout
    assert "medians of 2 traces" in result.stdout
    assert "breakeven: at most 2.00 × the clairvoyant's cost on these rungs" in result.stdout


def test_without_a_log_it_takes_what_is_shipped_and_says_so(place: Path) -> None:
    """On stderr, so that JSON stays one line. With the boost off, there is a column more."""
    result = simulated(place, "--json")
    found = told(result)

    assert len(found) == 11
    assert {row["rungs"] for row in found} == {"h200"}
    assert list(found[0]["policies"])[:2] == ["always_on", "boost_off"]
    assert result.stderr.splitlines() == [
        "no requests in a log here: these are traces that come with wattnap",
        "no calibrated ladder here: these are the prices of an H200; --rungs has others",
    ]


def test_a_log_and_a_calibration_are_this_machines_own(place: Path) -> None:
    """Requests of the log as the trace, batch work with nobody waiting; prices as measured."""
    (place / "state").mkdir()
    served = [("08", "interactive"), ("09", "batch"), ("10", "interactive")]
    with ledger(place / "state" / "wattnap.db") as into:
        for hour, klass in served:
            begun, ended = (f"2026-01-05T{hour}:00:{second}.000Z" for second in ("00", "10"))
            columns = {"accepted_at": begun, "started_at": begun, "class": klass}
            into.request(hour, ended, **columns)
        for price in measured(awake=40.0, off=0.0).values():
            prices.keep(into.db, "recipe", "GPU-1", "main", "{}", price)
    result = simulated(place, "--json")
    (found,) = told(result)

    assert result.stderr == ""
    assert (found["trace"], found["rungs"]) == ("this machine", "this machine")
    once = found["policies"]["at_once"]
    assert once["cold_share"] == round(1 / 3, 6)
    assert once["wakes_per_day"] == round(2 * 86400 / 7210, 4)


@pytest.mark.parametrize(
    ("trace", "status", "said"),
    [
        (None, os.EX_DATAERR, "No such file"),
        (b"\x89PNG\xff\xfe\x00", os.EX_DATAERR, "utf-8"),
        (b"", os.EX_DATAERR, "no column t_s"),
        (b"when,who\n1,2\n", os.EX_DATAERR, "no column t_s"),
        (b"t_s\n", os.EX_DATAERR, "no arrival"),
        (b"t_s\n1\nnan\n", os.EX_DATAERR, "line 3"),
        (b"t_s\n1\n,\n", os.EX_DATAERR, "line 3"),
        (b"t_s\n\x00\n", os.EX_DATAERR, "trace.csv"),
    ],
)
def test_a_bad_trace_is_told_in_one_line(
    place: Path, trace: bytes | None, status: int, said: str
) -> None:
    """With the file's name; nothing is printed."""
    path = place / "trace.csv"
    if trace is not None:
        path.write_bytes(trace)
    result = simulated(place, "--trace", str(path))

    assert (result.returncode, result.stdout) == (status, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"wattnap: {path}")
    assert said in line


def test_odd_traces_are_no_bad_ones(place: Path) -> None:
    """Times before 0, in no order, twice the same; or a single one."""
    (place / "odd.csv").write_text("t_s\n500\n-700\n500\n\n0\n")
    (place / "one.csv").write_text("t_s\n5\n")
    odd, one = str(place / "odd.csv"), str(place / "one.csv")
    found = told(simulated(place, "--trace", odd, "--trace", one, "--rungs", "h200", "--json"))
    people = simulated(place, "--trace", one, "--rungs", "h200")

    assert found[0]["policies"]["always_on"]["energy_j"] == 1200 * 120.0
    assert found[1]["policies"]["always_on"]["cost_ratio"] is None
    assert (people.returncode, people.stderr) == (0, "")


@pytest.mark.parametrize(
    ("rungs", "bound"),
    [
        ('[[rung]]\ndepth = "awake"\npower_w = 4\n', "1.00"),
        ('[[rung]]\ndepth = "awake"\npower_w = 0\n', "1.00"),
        (
            '[[rung]]\ndepth = "awake"\npower_w = 4\n[[rung]]\ndepth = "off"\npower_w = 0\n',
            "1.00",
        ),
        (
            (
                '[[rung]]\ndepth = "awake"\npower_w = 4\n'
                '[[rung]]\ndepth = "off"\npower_w = 0\nenter_s = 5\n'
            ),
            "no bound",
        ),
    ],
)
def test_odd_ladders(place: Path, rungs: str, bound: str) -> None:
    """One rung, rungs for nothing, and one at which to meet it costs what nobody can know."""
    (place / "odd.toml").write_text(rungs)
    result = simulated(place, "--trace", str(place / "day.csv"), "--rungs", str(place / "odd.toml"))

    assert (result.returncode, result.stderr) == (0, "")
    assert bound in next(x for x in result.stdout.splitlines() if x.startswith("breakeven:"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lambda-w", "-1"),
        ("--lambda-w", "nan"),
        ("--lambda-w", "inf"),
        ("--wake-cap-s", "nan"),
        ("--plot", "picture.gif"),
    ],
)
def test_wrong_usage(place: Path, arguments: tuple[str, ...]) -> None:
    result = simulated(place, "--trace", str(place / "day.csv"), "--rungs", "h200", *arguments)

    assert result.returncode == os.EX_USAGE
    assert arguments[0] in result.stderr


def test_a_picture(place: Path) -> None:
    """Beside what is printed."""
    picture = place / "day.png"
    day, rungs = str(place / "day.csv"), str(place / "two.toml")
    result = simulated(place, "--trace", day, "--rungs", rungs, "--plot", str(picture), "--json")

    assert len(told(result)) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("cap_s", [0.5, 2.0, 5.0, 10.0, 40.0])
@pytest.mark.parametrize("lambda_w", [0.0, 100.0])
def test_nobody_waits_longer_than_the_cap(cap_s: float, lambda_w: float) -> None:
    """On five rungs, on every shipped trace, also who meets it on its way down."""
    rungs = ladder_file.read(FIVE_RUNGS)
    terms = Terms(lambda_w=lambda_w, wake_cap_s=cap_s)
    for path in visits.shipped():
        found = simulation.simulate(visits.read(path), rungs, terms).policies

        assert max(found[name].wait_max_s for name in ("breakeven", "learned")) <= cap_s


def test_medians_leave_out_ratios_that_there_are_not() -> None:
    """Where the clairvoyant pays nothing, nobody is compared with him."""
    rungs = ladder_file.read(FIVE_RUNGS)
    day = visits.trace("day", [visits.Arrival(t, 1.0, True) for t in (0.0, 100.0, 900.0)], 0.0)
    empty = visits.trace("empty", [], 0.0)
    found = [simulation.simulate(trace, rungs, Terms()) for trace in (day, empty)]

    assert found[1].policies["learned"].cost_ratio is None
    assert medians(found)["learned"].cost_ratio == found[0].policies["learned"].cost_ratio


def test_the_bound_is_told_for_any_ladder() -> None:
    """What breakeven may cost at most, and what learned may cost beyond that."""
    assert promises(ladder_file.read("orin"), Terms())[0] == (
        "breakeven: at most 2.02 × the clairvoyant's cost on these rungs"
    )
    assert promises(ladder_file.read(FIVE_RUNGS), Terms(wake_cap_s=5.0))[0] == (
        "breakeven: at most 2.34 × the clairvoyant's cost on the rungs within 5 s"
    )
