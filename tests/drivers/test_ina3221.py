"""A Jetson's own sensors, from trees that are reconstructed: tests/fixtures/jetson/SOURCES.md."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from drivers.errors import BadReading, DriverError, NotPermitted, NotPresent, NotSupported
from drivers.ina3221 import Ina3221Meter
from drivers.protocols import Meter
from drivers.sensor_file import read_number
from tests.contracts.meter import MeterContract
from tests.trees import BOARDS, DESKTOP, jetson, write

NX = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


@pytest.mark.parametrize("board", BOARDS)
class TestIna3221OnATree(MeterContract):
    @pytest.fixture
    def meter(self, board: str, tmp_path: Path) -> Meter:
        return Ina3221Meter(root=jetson(board, tmp_path))


@pytest.mark.jetson
class TestIna3221(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        if not Path("/sys/bus/i2c/drivers/ina3221").exists():
            pytest.skip("no INA3221 here")
        return Ina3221Meter()


class Board:
    """A board's tree, its meter, and a clock that is set by hand."""

    def __init__(self, root: Path, total: tuple[str, ...] = ()) -> None:
        self.root, self.at_s = root, 0.0
        self.meter = Ina3221Meter(
            root=root, total=total, now=lambda: self.at_s, suspended=lambda: 0.0
        )

    def passed_j(self, seconds: float) -> float:
        self.at_s += seconds
        return self.meter.sample().energy_j

    def say(self, name: str, text: str) -> None:
        write(self.root, {f"{NX}/{name}": text})


@pytest.fixture
def nx(tmp_path: Path) -> Board:
    board = Board(jetson("orin-nx", tmp_path))
    board.meter.open()
    return board


@pytest.mark.parametrize(
    ("board", "rails", "watts"),
    [
        # Volts times amperes, of each rail of the total.
        (
            "agx-orin",
            ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"),
            19.016 * 0.210 + 4.992 * 0.620,
        ),
        ("orin-nx", ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 4.984 * 0.924),
        ("orin-nano", ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 4.976 * 0.980),
    ],
)
def test_boards(tmp_path: Path, board: str, rails: tuple[str, ...], watts: float) -> None:
    """Every rail is told by its own name; the total is what the table says, not their sum."""
    made = Board(jetson(board, tmp_path))
    made.meter.open()

    assert made.meter.rails == rails
    assert made.passed_j(10) == pytest.approx(10 * watts)
    assert made.meter.cadence.busy_hz == pytest.approx(1 / 0.210)


def test_rails(nx: Board) -> None:
    """Each has its own joules."""
    nx.at_s = 1.0

    assert nx.meter.sample().energy_j_by_rail == {
        "VDD_IN": pytest.approx(4.984 * 0.924),
        "VDD_CPU_GPU_CV": pytest.approx(4.984 * 0.142),
        "VDD_SOC": pytest.approx(4.984 * 0.290),
    }


def test_rails_that_somebody_chose(tmp_path: Path) -> None:
    """A wall meter may show that a board is wired in another way than the table says."""
    named = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    made = Board(jetson("agx-orin", tmp_path), named)
    made.meter.open()

    assert made.passed_j(1) == pytest.approx(19.016 * 0.210 + 4.992 * (0.620 + 0.096))


def test_a_rail_that_is_not_there(tmp_path: Path) -> None:
    """Is named, beside those that are."""
    with pytest.raises(NotSupported, match="no rail VDD_WRONG here, only VDD_IN"):
        Board(jetson("orin-nx", tmp_path), ("VDD_WRONG",)).meter.open()


def test_a_module_that_is_not_in_the_table(tmp_path: Path) -> None:
    """Nothing is guessed from names of rails; whoever knows can say so."""
    other = {"proc/device-tree/compatible": "nvidia,p3834-0008\0nvidia,tegra264\0"}
    root = jetson("orin-nx", tmp_path, other)
    with pytest.raises(NotSupported, match=r"energy\.rails"):
        Board(root).meter.open()
    made = Board(root, ("VDD_IN",))
    made.meter.open()

    assert made.passed_j(1) == pytest.approx(4.984 * 0.924)


@pytest.mark.parametrize("files", [{}, DESKTOP])
def test_no_sensor(tmp_path: Path, files: dict[str, str]) -> None:
    """Another machine has none."""
    with pytest.raises(NotPresent, match="no sensor"):
        Board(write(tmp_path, files)).meter.open()


def test_channels_that_are_not_connected(tmp_path: Path) -> None:
    """Or switched off: reading such a one would fail."""
    root = jetson("orin-nx", tmp_path, {f"{NX}/in2_label": "NC\n", f"{NX}/in3_enable": "0\n"})
    made = Board(root)
    made.meter.open()

    assert made.meter.rails == ("VDD_IN",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("curr1_input", "9240\n"),  # ten times as much, at a voltage where no board draws that
        ("in1_input", "49840\n"),
        ("in1_input", "-4984\n"),
        ("curr1_input", "-924\n"),
        ("curr2_input", "nan\n"),
        ("curr1_input", ""),
        ("curr1_input", "924 mA\n"),
        ("in1_input", "1" * 30),
    ],
)
def test_what_no_board_draws(nx: Board, name: str, text: str) -> None:
    """Refused; the next good reading continues from the last good one."""
    good = (nx.root / NX / name).read_text()
    if name == "curr1_input" and text.startswith("9240"):
        nx.say("in1_input", "19000\n")
    nx.say(name, text)
    nx.at_s = 1.0
    with pytest.raises(BadReading):
        nx.meter.sample()
    nx.say(name, good)
    nx.say("in1_input", "4984\n")

    assert nx.passed_j(1) == pytest.approx(2 * 4.984 * 0.924)
    assert nx.meter.sample().epoch == 0


def test_a_little_below_zero(nx: Board) -> None:
    """Is an unloaded rail."""
    nx.say("curr2_input", "-16\n")
    nx.at_s = 1.0
    nx.meter.sample()
    nx.at_s = 2.0

    assert nx.meter.sample().energy_j_by_rail["VDD_CPU_GPU_CV"] == pytest.approx(4.984 * 0.142 / 2)


def test_a_sensor_that_vanishes(nx: Board) -> None:
    """Is NotPresent, and when its driver is bound anew it may be another hwmon."""
    old = nx.root / NX
    old.rename(old.parent / "hwmon7")
    with pytest.raises(NotPresent):
        nx.meter.sample()
    nx.meter.close()
    nx.meter.open()

    assert nx.passed_j(1) == pytest.approx(4.984 * 0.924)


def test_a_box_that_slept(tmp_path: Path) -> None:
    """What it drew meanwhile nobody saw: a new epoch."""
    slept_s = [0.0]
    meter = Ina3221Meter(
        root=jetson("orin-nx", tmp_path), now=lambda: slept_s[0], suspended=lambda: slept_s[0]
    )
    meter.open()
    slept_s[0] = 20.0

    assert meter.sample().epoch == 1


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, "NotPresent"),
        (errno.ENODEV, "NotPresent"),
        (errno.EACCES, "NotPermitted"),
        (errno.EIO, "Unresponsive"),
        (errno.ETIMEDOUT, "Unresponsive"),
        (errno.ENODATA, "Unresponsive"),
        (errno.EAGAIN, "Unresponsive"),
    ],
)
def test_errors_by_kind(number: int, kind: str) -> None:
    """What the bus or the file system says becomes what is true now."""

    class Broken(type(Path())):  # type: ignore[misc]  # a path's class depends on the system
        def read_bytes(self) -> bytes:
            raise OSError(number, os.strerror(number))

    with pytest.raises(DriverError) as raised:
        read_number("sensor", Broken("/sys/sensor"), grant="ask root")

    assert type(raised.value).__name__ == kind
    assert ("ask root" in str(raised.value)) is isinstance(raised.value, NotPermitted)
