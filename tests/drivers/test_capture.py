from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from drivers import capture
from drivers.jetson import find_board
from drivers.probe import driver_installed, probe
from drivers.tree import Tree
from tests.trees import BOARDS, DESKTOP, SUSPENDED, VERSION, jetson, write


def unpacked(root: Path, folder: Path) -> Path:
    """What was captured of `root`, as somebody else unpacks it."""
    file = folder / "tree.tar.gz"
    capture.write(file, capture.captured(root))
    with tarfile.open(file) as tar:
        tar.extractall(folder / "copy", filter="data")
    return folder / "copy"


@pytest.mark.parametrize("board", BOARDS)
def test_a_copy_of_a_board_is_probed_alike(tmp_path: Path, board: str) -> None:
    """Everything that a driver reads is in it."""
    root = jetson(board, tmp_path / "root")
    copy = unpacked(root, tmp_path)

    assert probe(copy) == probe(root)
    assert {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()} == {
        path.relative_to(root) for path in root.rglob("*") if path.is_file()
    }


def test_a_copy_of_a_desktop_is_probed_alike(tmp_path: Path) -> None:
    """But for what says whose it is: UUIDs, and the names of swap files."""
    root = write(tmp_path / "root", DESKTOP)
    copy = unpacked(root, tmp_path)
    then, now = probe(root), probe(copy)

    assert (now.driver, now.boost_switch, now.persistenced) == ("580.159.04", True, True)
    assert [gpu.model for gpu in now.gpus] == [gpu.model for gpu in then.gpus]
    assert [swap.size_bytes for swap in now.memory.swaps] == [
        swap.size_bytes for swap in then.memory.swaps
    ]
    assert driver_installed(copy)


def test_nothing_tells_whose_machine_it_is(tmp_path: Path) -> None:
    """Neither of what lies beside the files that are read, nor of what is in them."""
    secrets = {
        "proc/device-tree/serial-number": "1421221012345\0",
        "etc/hostname": "alices-jetson\n",
        "sys/class/net/eth0/address": "48:b0:2d:00:11:22\n",
        "proc/driver/nvidia/version": VERSION.replace("Build", "Build  (root@alices-jetson)"),
        "lib/modules/5.4.0-alices/modules.dep": "nvidia.ko:\n",
    }
    copy = unpacked(write(tmp_path / "root", DESKTOP | secrets), tmp_path)
    everything = "".join(
        f"{path} {path.read_text()}" for path in copy.rglob("*") if path.is_file()
    ).lower()

    for secret in ("alice", "1421221012345", "48:b0", "gpu-0b1c", "crc16"):
        assert secret not in everything, secret


def test_of_the_archive_nothing_tells_either(tmp_path: Path) -> None:
    """No owner, no time; packed twice it is the same."""
    root = jetson("orin-nx", tmp_path / "root")
    files = [tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"]
    for file in files:
        capture.write(file, capture.captured(root))
    with tarfile.open(files[0]) as tar:
        owners = {(entry.uid, entry.uname, entry.mtime) for entry in tar}

    assert owners == {(0, "", 0)}
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 10_000


def test_no_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "tree.tar.gz"
    file.write_text("mine")
    with pytest.raises(FileExistsError):
        capture.write(file, {})

    assert file.read_text() == "mine"


def test_a_suspended_gpu_is_left_asleep(tmp_path: Path) -> None:
    """Its clock is not asked for; on a desktop nothing of it is."""
    folder = "sys/class/devfreq/17000000.gpu"
    status = {f"{folder}/device/power/runtime_status": "suspended\n"}
    board = capture.captured(jetson("orin-nx", tmp_path / "board", status))
    desktop = capture.captured(write(tmp_path / "desktop", DESKTOP | SUSPENDED))

    assert f"{folder}/max_freq" in board
    assert f"{folder}/cur_freq" not in board
    assert not any("config" in name or "resource" in name for name in desktop)


def test_links_are_followed(tmp_path: Path) -> None:
    """sysfs is made of them; the copy has files where the drivers look."""
    root = jetson("orin-nx", tmp_path / "root")
    shutil.move(root / "sys/class/devfreq/17000000.gpu", root / "elsewhere")
    (root / "sys/class/devfreq/17000000.gpu").symlink_to(root / "elsewhere")
    copy = unpacked(root, tmp_path)

    assert find_board(Tree(copy)) == find_board(Tree(root))
    assert not any(path.is_symlink() for path in copy.rglob("*"))
