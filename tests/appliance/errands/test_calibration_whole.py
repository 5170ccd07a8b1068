"""A calibration of vLLM itself, on whatever CPU there is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.app import running
from appliance.clock import SystemClock
from appliance.config import Config, Engine, Power
from appliance.desk import Calibrate
from appliance.machine.lifecycle import State
from appliance.notices import ApplianceChanged, Calibrating, Notice
from drivers.cpu_time import CpuTimeMeter
from drivers.meters import Meters
from policies.ladder import Depth
from tests.drivers.test_vllm_real import make_vllm

MIB = 1 << 20
ENDS = {"calibrated", "failed", "stopped"}


def _wanted(notice: Notice) -> bool:
    return isinstance(notice, Calibrating | ApplianceChanged)


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


@pytest.mark.engine
@pytest.mark.timeout(500)
async def test_vllm_itself(place: Path, engine_python: str) -> None:
    """Every rung that it offers has seconds, estimated watts, and what it holds of the RAM."""
    config = Config(
        state_dir=str(place / "state"),
        runtime_dir=str(place / "daemon"),
        engine=Engine(alias="tiny"),
        power=Power(idle_timeout_s=600.0),
    )
    engine = make_vllm(place, engine_python, warm_host=True)
    async with running(config, engine, Meters(CpuTimeMeter()), SystemClock()) as made:
        intake, end = made.intake, None
        with (
            intake.notices.subscribed(_wanted) as news,
            intake.calibrate(Calibrate(cycles=1, over_s=6.0)),
        ):
            async for notice in news:
                if isinstance(notice, Calibrating) and notice.step in ENDS:
                    end = notice
                if end and made.supervisor.machine.state is State.ASLEEP:
                    break
        assert end is not None
        assert (end.step, end.detail) == ("calibrated", "")
        rungs = {rung["depth"]: rung for rung in intake.calibration()["rungs"]}

    assert {"awake", "light", "stopped", "off"} <= set(rungs)
    assert all(rung["power_w"] > 0 for rung in rungs.values())
    assert 0 < rungs["light"]["wake_s"] < rungs["off"]["wake_s"]
    assert rungs["awake"]["ram_bytes"] > 200 * MIB
    assert rungs["off"]["ram_bytes"] < 50 * MIB
    assert list(rungs) == [depth.name.lower() for depth in Depth if depth.name.lower() in rungs]
