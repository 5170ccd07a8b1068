from __future__ import annotations

from typing import Any

import pytest

from drivers.nvml_facts import NvmlFacts, look
from tests.fakes.nvml import UUID, Nvml

IDLE = {"ComputeRunningProcesses": [], "ClockInfo": 345, "MaxClockInfo": 1980}


@pytest.mark.parametrize(
    ("answers", "pinned"),
    [
        (IDLE, ""),
        (IDLE | {"ClockInfo": 1980}, "locked"),
        (IDLE | {"ClockInfo": 1980, "ComputeRunningProcesses": [object()]}, ""),
        (IDLE | {"CurrentClocksEventReasons": 1}, ""),
        (IDLE | {"CurrentClocksEventReasons": 3}, "setting"),
        ({"ApplicationsClock": 1200, "DefaultApplicationsClock": 1980}, "1200 MHz"),
        ({"ApplicationsClock": 1980, "DefaultApplicationsClock": 1980}, ""),
    ],
)
def test_pinned_clocks(answers: dict[str, Any], pinned: str) -> None:
    """By a setting that NVML tells of, or by a clock that no work explains."""
    found = look(UUID, Nvml(**answers))
    assert isinstance(found, NvmlFacts)

    assert bool(found.pinned) == bool(pinned)
    assert pinned in found.pinned


@pytest.mark.parametrize(("answer", "mode"), [({"PersistenceMode": 1}, True), ({}, None)])
def test_persistence(answer: dict[str, Any], mode: bool | None) -> None:
    """On, off, or not said."""
    assert look("", Nvml(**answer)) == NvmlFacts(persistence=mode)


def test_it_is_closed_again() -> None:
    """So that the driver lets the GPU go."""
    nvml = Nvml()
    look(UUID, nvml)

    assert (nvml.calls[0], nvml.calls[-1]) == ("Init", "Shutdown")


def test_an_nvml_that_does_not_open() -> None:
    """Is words, and is not closed."""
    nvml = Nvml(opens=False)

    assert look(UUID, nvml) == "NVML cannot be opened: Driver Not Loaded"
    assert nvml.calls == ["Init"]
