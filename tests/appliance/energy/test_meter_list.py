"""Which meters a machine has, and what is said of those that it has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.config import Config, Energy
from appliance.energy.meter_list import Listed, list_meters
from tests.appliance.commands import wattnap, write_config
from tests.trees import BASE, DESKTOP, SUSPENDED, jetson, write

STAT = {"proc/stat": "cpu  1 1 1 1\n"}
PACKAGE = {
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
}


def listed(root: Path, energy: Energy | None = None) -> dict[str, Listed]:
    found = list_meters(Config(energy=energy or Energy()), root=root, pause=lambda _: None)
    return {meter.kind: meter for meter in found}


def test_all_kinds_are_listed(tmp_path: Path) -> None:
    """Each with a word for its state; those that are not here say why."""
    found = listed(write(tmp_path, BASE | STAT))

    assert list(found) == ["nvml", "nvml_power", "ina3221", "rapl", "plug", "cpu_time"]
    assert {kind: meter.state for kind, meter in found.items()} == {
        "nvml": "absent", "nvml_power": "absent", "ina3221": "absent", "rapl": "absent",
        "plug": "absent", "cpu_time": "here",
    }  # fmt: skip
    assert all(meter.says for meter in found.values() if meter.state == "absent")
    assert found["cpu_time"].use == "bills"


def test_one_that_is_here(tmp_path: Path) -> None:
    """What it measures, how, and how often it is looked at."""
    rapl = listed(write(tmp_path, BASE | STAT | PACKAGE), Energy(also=("cpu_time",)))["rapl"]

    assert (rapl.state, rapl.use, rapl.source, rapl.device) == ("here", "bills", "counter", "cpu")
    assert rapl.rails == ("package-0",)
    assert rapl.cadence is not None
    assert rapl.cadence.busy_s <= rapl.cadence.idle_s <= rapl.cadence.rest_s
    assert rapl.power_w == pytest.approx(0.0)


def test_a_board(tmp_path: Path) -> None:
    """Its rails by their own names."""
    found = listed(jetson("orin-nx", tmp_path, STAT))

    assert found["ina3221"].use == "bills"
    assert found["ina3221"].rails == ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")


def test_a_gpu_that_sleeps(tmp_path: Path) -> None:
    """It bills, and is left asleep."""
    nvml = listed(write(tmp_path, DESKTOP | STAT | SUSPENDED))["nvml"]

    assert (nvml.state, nvml.use, nvml.power_w) == ("asleep", "bills", None)
    assert "suspended" in nvml.says


def test_a_plug(tmp_path: Path) -> None:
    """It is the daemon that hears it."""
    energy = Energy(meter="plug", plug_topic="tele/box/SENSOR")
    plug = listed(write(tmp_path, BASE | STAT), energy)["plug"]

    assert (plug.state, plug.use) == ("silent", "bills")
    assert "tele/box/SENSOR" in plug.says


def test_no_joules_are_counted(tmp_path: Path) -> None:
    """Then none of them is of use."""
    found = listed(write(tmp_path, BASE | STAT), Energy(meter="none", gain={"rapl": 1.1}))

    assert {meter.use for meter in found.values()} == {""}
    assert found["rapl"].gain == 1.1


def test_the_command(tmp_path: Path) -> None:
    """A table for people, with the remedies below it; JSON for programs."""
    config = write_config(tmp_path)
    people = wattnap("meter", "list", config=config).stdout
    (line,) = wattnap("meter", "list", "--json", config=config).stdout.splitlines()
    bills = [meter for meter in json.loads(line)["meters"] if meter["use"] == "bills"]

    assert "plug: energy.plug_topic" in people
    assert [meter["kind"] for meter in bills] == ["cpu_time"]
    assert bills[0]["power_w"] > 0
