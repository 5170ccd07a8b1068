"""Boards, from trees that are reconstructed: tests/fixtures/jetson/SOURCES.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.jetson import Board, GpuClock, PowerMode, find_board
from drivers.tree import Tree
from tests.trees import BOARDS, DESKTOP, jetson, write


def board_of(root: Path) -> Board:
    found = find_board(Tree(root))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("board", "name", "l4t", "jetpack", "clock", "top_hz", "mode"),
    [
        ("agx-orin", "AGX Orin 64GB", "35.4.1", "5", "17000000.ga10b", 1_300_500_000, "MAXN"),
        ("orin-nx", "Orin NX 16GB", "36.4.3", "6", "17000000.gpu", 918_000_000, "MAXN"),
        ("orin-nano", "Orin Nano 8GB", "36.4.7", "6", "17000000.gpu", 1_020_000_000, "MAXN_SUPER"),
    ],
)
def test_boards(
    tmp_path: Path,
    board: str,
    name: str,
    l4t: str,
    jetpack: str,
    clock: str,
    top_hz: int,
    mode: str,
) -> None:
    """Module, system, the GPU's clock wherever its driver puts it, and the mode by name."""
    found = board_of(jetson(board, tmp_path))
    assert found.gpu is not None
    assert found.power_mode is not None

    assert found.orin
    assert found.name.startswith(f"Jetson {name}")
    assert (found.l4t, found.jetpack) == (l4t, jetpack)
    assert (found.gpu.name, found.gpu.available_hz[-1], found.gpu.pinned) == (clock, top_hz, False)
    assert found.gpu.current_hz == found.gpu.min_hz == found.gpu.available_hz[0]
    assert found.power_mode.name == mode
    assert len(found.power_mode.names) == 4


def test_a_model_that_names_the_wrong_module(tmp_path: Path) -> None:
    """Carriers' makers copy that text; the part number is right."""
    root = jetson("orin-nano", tmp_path, {"proc/device-tree/model": "NVIDIA Jetson Orin NX\0"})

    assert board_of(root).name.startswith("Jetson Orin Nano 8GB")


def test_jetpack_7_on_an_orin(tmp_path: Path) -> None:
    """Another release, the same places."""
    release = {"etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n"}
    found = board_of(jetson("orin-nx", tmp_path, release))

    assert (found.l4t, found.jetpack) == ("39.2.0", "7")


@pytest.mark.parametrize(
    ("changes", "pinned"),
    [
        ({"min_freq": "918000000\n"}, True),
        ({"governor": "performance\n"}, True),
        ({"max_freq": "612000000\n"}, False),
    ],
)
def test_pinned_clocks(tmp_path: Path, changes: dict[str, str], pinned: bool) -> None:
    """jetson_clocks leaves the governor no room; a power mode's cap does."""
    folder = "sys/class/devfreq/17000000.gpu"
    files = {f"{folder}/{name}": text for name, text in changes.items()}
    found = board_of(jetson("orin-nx", tmp_path, files))

    assert found.gpu is not None
    assert found.gpu.pinned is pinned


def test_a_suspended_gpu_is_not_asked(tmp_path: Path) -> None:
    """Its driver might wake it to answer."""
    folder = "sys/class/devfreq/17000000.gpu"
    status = {f"{folder}/device/power/runtime_status": "suspended\n"}
    found = board_of(jetson("orin-nx", tmp_path, status))

    assert found.gpu is not None
    assert (found.gpu.runtime, found.gpu.current_hz) == ("suspended", None)
    assert found.gpu.max_hz == 918_000_000


def test_a_mode_that_was_never_chosen(tmp_path: Path) -> None:
    """Then it is the configuration's."""
    root = jetson("orin-nx", tmp_path)
    (root / "var/lib/nvpmodel/status").unlink()
    assert board_of(root).power_mode == PowerMode(
        id=2, names={0: "MAXN", 1: "10W", 2: "15W", 3: "25W"}
    )
    (root / "etc/nvpmodel.conf").unlink()

    assert board_of(root).power_mode is None


def test_a_board_that_says_little(tmp_path: Path) -> None:
    """What is not known is empty, and nothing fails."""
    compatible = {"proc/device-tree/compatible": "nvidia,p3834-0000\0nvidia,tegra264\0"}
    found = board_of(write(tmp_path, compatible))

    assert found == Board(model="")
    assert found.jetpack == ""


@pytest.mark.parametrize("files", [{}, DESKTOP])
def test_no_jetson(tmp_path: Path, files: dict[str, str]) -> None:
    assert find_board(Tree(write(tmp_path, files))) is None


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_has_the_files_of_its_rails(tmp_path: Path, board: str) -> None:
    """Voltage and current for each rail that has a name."""
    chips = list(jetson(board, tmp_path).glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"))
    named = [label for chip in chips for label in chip.glob("in[1-3]_label")]

    assert named
    for label in named:
        number = label.name[2]
        assert int((label.parent / f"in{number}_input").read_text()) > 0
        assert int((label.parent / f"curr{number}_input").read_text()) > 0


def test_clocks_that_are_not_known() -> None:
    """Are not taken for pinned ones."""
    assert not GpuClock(name="17000000.gpu").pinned
