"""Bakes over the real driver: a process that plays vLLM, and vLLM itself."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.app import running
from appliance.clock import SystemClock
from appliance.config import Config, Power
from appliance.machine.lifecycle import State
from appliance.notices import ApplianceChanged, Baking, Notice
from appliance.storage.reading import reading
from drivers.protocols import Engine
from tests.appliance.commands import daemon, wattnap, write_config
from tests.drivers.test_vllm_order import engine as stand_in
from tests.drivers.test_vllm_real import make_vllm


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


async def life(place: Path, engine: Engine) -> dict[str, Any]:
    """One daemon's life: it looks, bakes if it has to, and comes to rest; what that was like."""
    config = Config(
        state_dir=str(place / "state"),
        runtime_dir=str(place / "daemon"),
        power=Power(idle_timeout_s=600.0),
    )

    def wanted(notice: Notice) -> bool:
        return isinstance(notice, Baking | ApplianceChanged)

    async with running(config, engine, None, SystemClock()) as made:
        steps, details = [], []
        with made.intake.notices.subscribed(wanted) as news:
            made.bake.look(bake=True)
            async for notice in news:
                if isinstance(notice, Baking):
                    steps.append(notice.step)
                    details.append(notice.detail)
                at_rest = made.supervisor.machine.state is State.ASLEEP
                if steps[-1:] == ["failed"] or (steps[-1:] == ["baked"] and at_rest):
                    break
        return {
            "steps": steps,
            "details": details,
            "state": made.intake.state()["bake"],
            "wakes": await made.store.read(
                lambda db: db.execute("SELECT count(*) FROM wakes").fetchone()[0]
            ),
        }


async def test_a_new_daemon_bakes_what_has_changed(place: Path) -> None:
    """A flag, a file of the model, another vLLM; and nothing that has been baked."""

    def changed(**other: Any) -> Engine:
        return stand_in(place, **other)

    first = await life(place, changed(args=("--image-sleeps", "2")))
    assert first["steps"] == ["starting", "awake", "asleep", "asleep", "baked"]
    assert first["details"] == ["", "", "1 sleeps are missing", "", ""]

    again = await life(place, changed(args=("--image-sleeps", "2")))
    assert (again["steps"], again["wakes"]) == (["baked"], first["wakes"])

    flag = await life(place, changed())
    assert flag["steps"] == ["starting", "awake", "asleep", "baked"]

    (place / "model" / "config.json").write_text("{}")
    assert "starting" in (await life(place, changed()))["steps"]

    launch = stand_in(place)._orders.launch
    assert launch is not None
    newer = await life(place, changed(launch=(launch[0], "0.33.0")))
    assert "starting" in newer["steps"]
    assert "starting" not in (await life(place, changed()))["steps"]


async def test_settings_that_do_not_fit_are_baked_once(place: Path) -> None:
    """What was made smaller until it fitted is no other recipe for the next daemon."""
    small = await life(place, stand_in(place, args=("--fits", "4")))
    assert small["steps"][-1] == "baked"

    again = await life(place, stand_in(place, args=("--fits", "4")))
    assert (again["steps"], again["wakes"]) == (["baked"], small["wakes"])


async def test_a_start_that_fails_is_told(place: Path) -> None:
    """With the engine's own words."""
    words = "api_server.py: error: unrecognized arguments: --no-such-flag"
    failed = await life(place, stand_in(place, args=("--last-words", words)))

    assert failed["steps"][-1] == "failed"
    assert "unrecognized arguments" in failed["state"]["reason"]


def test_a_daemon_bakes_when_it_starts(place: Path) -> None:
    """Once; it can be watched, and the next daemon knows of it. With bake = false it waits."""
    config, log = write_config(place), place / "log"
    with daemon(config, log, stand_in=True):
        assert "baked at " in wattnap("bake", config=config).stdout
    with daemon(config, log, "--start-s", "0.1", stand_in=True):
        assert "awake, and has answered" in wattnap("bake", config=config).stdout
    with daemon(config, log, "--start-s", "0.1", stand_in=True):
        assert wattnap("bake", config=config).stdout.startswith("baked at ")
    assert causes(place) == ["bake", "bake"]

    config = write_config(place, "bake = false\n")
    with daemon(config, log, "--start-s", "0.2", stand_in=True):
        while "not baked yet" not in wattnap("status", config=config).stdout:
            pass
    assert causes(place) == ["bake", "bake"]


def test_a_daemon_stops_in_mid_bake(place: Path) -> None:
    """At once, with nothing left; and it is not taken for baked."""
    config, log = write_config(place), place / "log"
    with daemon(config, log, "--start-s", "60", stand_in=True) as process:
        while "baking: starting" not in wattnap("status", config=config).stdout:
            pass
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)

        assert process.wait(15) == 0
    assert children
    assert not [child for child in children if child.is_running()]
    with daemon(config, log, "--start-s", "60", stand_in=True):
        while "baking: starting" not in wattnap("status", config=config).stdout:
            pass


def causes(place: Path) -> list[str]:
    """Why the engine was started, in order."""
    with reading(place / "state" / "wattnap.db") as db:
        return [str(row["cause"]) for row in db.query("SELECT cause FROM wakes ORDER BY at")]


@pytest.mark.engine
@pytest.mark.timeout(400)
async def test_vllm_itself(place: Path, engine_python: str) -> None:
    """Its first daemon bakes and leaves a whole image; the second has nothing to do."""
    first = await life(place, make_vllm(place, engine_python))

    assert first["steps"] == ["starting", "awake", "asleep", "baked"]
    assert first["state"]["missing"] is None
    assert (place / "cache/images/tiny-0").stat().st_size > 50_000

    again = await life(place, make_vllm(place, engine_python))

    assert (again["steps"], again["wakes"]) == (["baked"], first["wakes"])
