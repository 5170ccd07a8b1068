"""Which meters a configuration gives on which machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import Config, Energy, Mqtt
from appliance.energy.metering import build_meters, plugs
from appliance.errors import ConfigError
from tests.trees import BASE, BOARDS, DESKTOP, SUSPENDED, jetson, write

STAT = {"proc/stat": "cpu  1 1 1 1\n"}
PACKAGE = {
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
}
PLAIN = BASE | STAT


def names(root: Path, energy: Energy, *, mqtt: bool = True) -> list[str]:
    """The one that bills, then the others."""
    meters = build_meters(Config(energy=energy, mqtt=Mqtt(enabled=mqtt)), root=root)
    return [meter.name for meter in (meters.billing, *meters.others)] if meters else []


@pytest.mark.parametrize(
    ("files", "billing"),
    [
        (PLAIN, "cpu-time"),
        (PLAIN | PACKAGE, "rapl"),
        (DESKTOP | STAT | SUSPENDED, "nvml"),  # left asleep, and not given up for it
    ],
    ids=["plain", "rapl", "suspended"],
)
def test_auto(tmp_path: Path, files: dict[str, str], billing: str) -> None:
    """The best that is here."""
    assert names(write(tmp_path, files), Energy()) == [billing]


@pytest.mark.parametrize("board", BOARDS)
def test_auto_on_a_jetson(tmp_path: Path, board: str) -> None:
    """Its own sensors."""
    assert names(jetson(board, tmp_path, STAT), Energy()) == ["ina3221"]


def test_a_jetson_whose_sensors_are_not_to_be_had(tmp_path: Path) -> None:
    """A board that is not in the table is estimated, until somebody names its rails."""
    other = {"proc/device-tree/compatible": "nvidia,p3834-0008\0nvidia,tegra264\0"}
    root = jetson("orin-nx", tmp_path, STAT | other)

    assert names(root, Energy()) == ["cpu-time"]
    assert names(root, Energy(rails=("VDD_IN",))) == ["ina3221"]


def test_none(tmp_path: Path) -> None:
    """Then nothing is measured, and nothing can be measured beside it."""
    assert names(tmp_path, Energy(meter="none")) == []
    with pytest.raises(ConfigError, match=r"energy\.also"):
        names(tmp_path, Energy(meter="none", also=("rapl",)))


@pytest.mark.parametrize("kind", ["ina3221", "rapl", "cpu_time"])
def test_one_that_was_named_and_is_not_here(tmp_path: Path, kind: str) -> None:
    """Is a mistake in the file: nothing else bills in its place."""
    with pytest.raises(ConfigError, match=r"energy\.meter"):
        names(tmp_path, Energy(meter=kind))  # type: ignore[arg-type]  # a word of its set


def test_beside_the_bill(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those that are not here are told, and stay: they may come. Each is there once."""
    root = write(tmp_path, PLAIN | PACKAGE)
    energy = Energy(
        also=("plug", "cpu_time", "plug", "ina3221"), plug_topic="shelly/status/switch:0"
    )

    assert names(root, energy) == ["rapl", "plug", "cpu-time", "ina3221"]
    (told,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert told.startswith("energy.also: ina3221: no sensor")


@pytest.mark.parametrize(
    ("energy", "mqtt", "key"),
    [
        (Energy(meter="plug"), True, "energy.plug_topic"),
        (Energy(also=("plug",)), True, "energy.plug_topic"),
        (Energy(meter="plug", plug_topic="a/b"), False, "mqtt.enabled"),
        (Energy(meter="cpu_time", also=("cpu_time",)), True, "energy.also: cpu_time bills already"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, energy: Energy, mqtt: bool, key: str) -> None:
    """Is told with the key that is wrong."""
    with pytest.raises(ConfigError) as raised:
        names(write(tmp_path, PLAIN), energy, mqtt=mqtt)

    assert str(raised.value).startswith(key)


def test_plugs(tmp_path: Path) -> None:
    """Those that have to be handed their messages, wherever they stand."""
    root = write(tmp_path, PLAIN)
    billing = Config(energy=Energy(meter="plug", plug_topic="a/b", also=("cpu_time",)))
    beside = Config(energy=Energy(also=("plug",), plug_topic="a/b"))

    assert [p.topic for p in plugs(build_meters(billing, root=root))] == ["a/b"]
    assert [p.topic for p in plugs(build_meters(beside, root=root))] == ["a/b"]
    assert list(plugs(None)) == []


def test_one_that_is_corrected(tmp_path: Path) -> None:
    """By gain and offset, whether it bills or not; a plug is still handed its messages."""
    energy = Energy(
        meter="plug", plug_topic="a/b", also=("cpu_time",), gain={"cpu_time": 1.5},
        offset_w={"plug": -1.0, "cpu_time": 20.0},
    )  # fmt: skip
    meters = build_meters(Config(energy=energy), root=write(tmp_path, PLAIN))
    assert meters is not None
    (beside,) = meters.others

    assert meters.billing.device == "box × 1 + -1 W"
    assert beside.idle_w == pytest.approx(1.5 * 4 + 20)
    assert [plug.topic for plug in plugs(meters)] == ["a/b"]


def test_one_that_is_not_corrected(tmp_path: Path) -> None:
    """Is as it is, though another one's gain is known."""
    meters = build_meters(Config(energy=Energy(gain={"nvml": 1.2})), root=write(tmp_path, PLAIN))

    assert meters is not None
    assert meters.billing.device == "box"
