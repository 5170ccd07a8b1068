"""Machines to be examined: made of files, an engine's Python in a few lines, NVML in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.config import Config, Engine, Mqtt, Tariff
from appliance.setup.checks.findings import Finding, Report
from tests.fakes.python_with_vllm import python_with
from tests.trees import (
    DESKTOP,
)

AWAKE: dict[str, Any] = {
    "PersistenceMode": 1,
    "ComputeRunningProcesses": [],
    "ClockInfo": 345,
    "MaxClockInfo": 1980,
    "TotalEnergyConsumption": 5_000_000,
}


Examine = Callable[..., Report]
Finder = Callable[..., Finding | None]


def without(*parts: dict[str, str]) -> dict[str, str]:
    """A desktop that lacks these."""
    return {name: text for name, text in DESKTOP.items() if not any(name in p for p in parts)}


def config_in(folder: Path, **engine: Any) -> Config:
    """An installation that is all right."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    if (python := engine.get("python")) is None:
        python_with(folder, "0.2.2", "instanttensor")
        python = str(python_with(folder, "0.32.0"))
    return Config(
        state_dir=str(state),
        runtime_dir=str(folder / "run"),
        mqtt=Mqtt(enabled=False),
        tariff=Tariff(per_kwh=0.3),
        engine=Engine(**{"model": "some/model"} | engine | {"python": python}),
    )


def found(report: Report, what: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.what == what]
    return finding
