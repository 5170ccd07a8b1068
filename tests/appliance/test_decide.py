"""What `wattnap calibrate` and `wattnap why` print, and what is decided and why."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.commands.decide import ladder_row, plan, span, timetable
from appliance.commands.power import describe_calibration
from policies.ladder import Depth
from tests.appliance.commands import daemon, wattnap, write_config
from tests.benches import IDLE_S, Bench, bench

RUNG: dict[str, Any] = {
    "depth": "parked",
    "power_w": 77.04,
    "spread_w": 0.42,
    "settle_s": 2.0,
    "vram_bytes": 0,
    "ram_bytes": 3_700_000_000,
    "breakeven_s": 92.4,
    "saves_w": 2.3,
}


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


def test_a_rung_for_people() -> None:
    """Watts with their spread, gigabytes, and when it pays; what is not known stays empty."""
    row = ladder_row(RUNG)
    assert (row["power"], row["ram"], row["pays"]) == ("77.0 ± 0.4", "3.7", "92.4 s")

    row = ladder_row({**RUNG, "power_w": None, "vram_bytes": None, "breakeven_s": None})
    assert (row["power"], row["vram"], row["pays"]) == (None, None, "never")

    assert ladder_row({**RUNG, "saves_w": None, "breakeven_s": None})["pays"] is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (92.44, "92.4 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2.31 d")],
)
def test_how_long(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_what_the_policy_will_do() -> None:
    steps = [{"after_s": 0.0, "depth": "awake"}, {"after_s": 300.0, "depth": "parked"}]

    assert plan({"policy": "fixed", "timetable": steps}) == "policy fixed: parked after 5 min"
    assert plan({"policy": "fixed", "timetable": steps[:1]}) == "policy fixed: stays awake"


def test_no_timetable() -> None:
    assert timetable({"by": None, "timetable": []}).startswith("no timetable")


def test_how_the_calibration_stands() -> None:
    """What is amiss, and the word that mends it; nothing where all is well."""
    assert describe_calibration({"state": "calibrated"}) == []
    for state, words in (
        ({"state": "never"}, "not calibrated: what the rungs cost is guessed"),
        ({"state": "stale", "changed": ["driver 1 → 2", "flags"]}, "(driver 1 → 2, flags)"),
        ({"state": "partial", "lacking": ["off"]}, "not calibrated yet: off"),
        ({"state": "calibrating", "step": "up", "depth": "off", "left_s": 100}, "about 2 min"),
    ):
        (line,) = describe_calibration(state)
        assert words in line


def why(b: Bench) -> list[tuple[str, str]]:
    return [(told.did, told.why) for told in b.supervisor.decisions]


async def test_what_was_decided_and_why(tmp_path: Path) -> None:
    """Each move with its reason, each plan; the same plan again is told once."""
    async with bench(tmp_path, start_s=5.0) as b:
        await b.send("first")
        await b.clock.advance(5.0)
        await b.send("second")
        await b.clock.advance(IDLE_S + 1)
        b.intake.wake(100.0)
        await b.clock.advance(5.0)
        b.intake.rest()
        await b.clock.advance(1)

        off = f"plans to rest: off after {IDLE_S:.0f} s"
        assert why(b) == [
            ("wakes it from off", "1 request waits"),
            (off, "policy fixed"),
            ("lets it rest, off", "its timetable says so"),
            ("wakes it from off", "the operator's word"),
            ("plans to rest: off after 95 s", "policy fixed"),
            ("lets it rest, off", "the operator's word"),
        ]


async def test_a_failure_is_a_reason(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.send("endless")
        b.engine.die()
        await b.clock.advance(1)

        (_, failed, again) = why(b)
        assert failed[0] == "starts it again after a pause"
        assert failed[1].startswith("it failed: fake: exited with -9")
        assert again == ("wakes it from off", "1 request waits")


async def test_what_the_desk_tells(tmp_path: Path) -> None:
    """The timetable in force, with its instants; the moves that the ledger has."""
    async with bench(tmp_path, start_s=5.0) as b:
        assert (await b.intake.why(5))["timetable"] == []
        await b.send("first")
        await b.clock.advance(15.0)

        told = await b.intake.why(5)
        assert told["by"] == "policy fixed"
        assert told["timetable"] == [
            {"depth": "awake", "at": "2026-01-01T00:00:05.000Z"},
            {"depth": "off", "at": "2026-01-01T00:01:05.000Z"},
        ]
        (move,) = told["transitions"]
        assert (move["from_depth"], move["to_depth"], move["cause"]) == ("off", "awake", "request")
        assert (await b.intake.why(1))["decisions"] == told["decisions"][-1:]
        assert b.supervisor.machine.depth is Depth.AWAKE


def test_with_a_daemon(place: Path) -> None:
    """Calibrated over the socket, with a real process for an engine; then asked why."""
    config, log = write_config(place), place / "log"
    with daemon(config, log, "--start-s", "0.1", stand_in=True):
        assert "not calibrated" in wattnap("status", config=config).stdout
        told = json.loads(
            wattnap("calibrate", "--cycles", "1", "--over", "5", "--json", config=config).stdout
        )
        rungs = {rung["depth"]: rung for rung in told["rungs"]}
        assert rungs["off"]["wake_s"] > 0.1
        assert rungs["awake"]["power_w"] > 0
        assert rungs["awake"]["ram_bytes"] > 1_000_000
        assert told["estimated"] is True
        assert "not calibrated" not in wattnap("status", config=config).stdout

        shown = wattnap("calibrate", config=config)
        assert "pays after" in shown.stdout
        assert "estimates from CPU time" in shown.stderr
        reasons = wattnap("why", config=config).stdout
        assert "the calibration" in reasons
        assert json.loads(wattnap("why", "--json", config=config).stdout)["transitions"]
