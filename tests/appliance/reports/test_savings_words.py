"""What `wattnap savings` says of a column that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.commands.energy_tables import saved
from appliance.config import Engine
from appliance.reports.boost import no_boost
from tests.trees import BASE, DESKTOP, write

UNKNOWN = {"as_shipped_j": None, "always_awake_j": None, "ladder_j": 285.0}


@pytest.mark.parametrize(
    ("files", "engine", "why"),
    [
        (BASE, Engine(), "there is no GPU here"),
        (DESKTOP, Engine(device="cpu"), 'engine.device is "cpu", so the GPU is not used'),
        (
            DESKTOP,
            Engine(env={"CUDA_DISABLE_PERF_BOOST": "0"}),
            "engine.env sets CUDA_DISABLE_PERF_BOOST",
        ),
        (DESKTOP, Engine(), ""),
    ],
)
def test_where_the_boost_cannot_be_seen(
    tmp_path: Path, files: dict[str, str], engine: Engine, why: str
) -> None:
    """It is said why, before anybody calibrates for it."""
    assert no_boost(engine, write(tmp_path / "root", files)) == why


def test_what_is_not_known_yet() -> None:
    """The command that finds it out is named only where it can."""
    here = saved(UNKNOWN, "as_shipped", "EUR", "there is no GPU here")
    later = saved(UNKNOWN, "as_shipped", "EUR")
    awake = saved(UNKNOWN, "always_awake", "EUR", "there is no GPU here")

    assert here == "Against as vLLM ships: not known; there is no GPU here."
    assert "until `wattnap calibrate` has seen this GPU" in later
    assert "awake and idle here for a quarter of a minute" in awake
