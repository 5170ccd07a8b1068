"""Machines as files: roots that a probe can look at.

Jetsons lie in tests/fixtures/jetson; desktop machines are made here, of parts that
are put together with `|`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from drivers.permissions import Account

JETSONS = Path(__file__).parent / "fixtures" / "jetson"
BOARDS = ("agx-orin", "orin-nx", "orin-nano")

NOBODY = Account("nobody", 2_000_001, frozenset({2_000_001}))
"""Owns nothing and is in no group: permissions are told apart also where root runs the tests."""

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
INFORMATION = """\
Model: 		 NVIDIA H200
IRQ:   		 314
GPU UUID: 	 GPU-0b1c
Bus Type: 	 PCIe
Bus Location: 	 0000:19:00.0
"""

BASE = {
    "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
    "proc/meminfo": "MemTotal:       65710420 kB\nMemAvailable:   46828796 kB\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/home/alice/swap file 8388604 0 -2\n",
    "etc/os-release": "ID=ubuntu\n",
}
PCI = {
    "sys/bus/pci/devices/0000:00:01.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:00:01.0/class": "0x030000\n",
    "sys/bus/pci/devices/0000:19:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:19:00.0/class": "0x030200\n",
    "sys/bus/pci/devices/0000:19:00.0/power/runtime_status": "active\n",
    "sys/bus/pci/devices/0000:19:00.1/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:19:00.1/class": "0x040300\n",
}
SUSPENDED = {"sys/bus/pci/devices/0000:19:00.0/power/runtime_status": "suspended\n"}
INSTALLED = {
    "lib/modules/6.8.0-45-generic/modules.dep": (
        "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko\n"
        "updates/dkms/nvidia.ko.zst: kernel/drivers/video/video.ko\n"
        "updates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\n"
    )
}
DRIVER = {"proc/driver/nvidia/version": VERSION}
GPU = {"proc/driver/nvidia/gpus/0000:19:00.0/information": INFORMATION}
NODE = {"dev/nvidiactl": "", "dev/nvidia-uvm": "", "dev/nvidia0": ""}
PERSISTENCED = {"run/nvidia-persistenced/socket": ""}
BOOTED = {"run/systemd/system/session-1.scope": ""}
DESKTOP = BASE | PCI | INSTALLED | DRIVER | GPU | NODE | PERSISTENCED | BOOTED


def old_driver(version: str) -> dict[str, str]:
    """DRIVER, of another version."""
    return {"proc/driver/nvidia/version": VERSION.replace("580.159.04", version)}


def write(root: Path, files: Mapping[str, str]) -> Path:
    """A root with these files. Device nodes may be used by everybody."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return _opened(root)


def jetson(board: str, root: Path, changes: Mapping[str, str] | None = None) -> Path:
    """A copy of one of BOARDS, with `changes`. Device nodes may be used by everybody."""
    shutil.copytree(JETSONS / board, root, dirs_exist_ok=True)
    return write(root, changes or {})


def _opened(root: Path) -> Path:
    for node in (root / "dev").rglob("*"):
        node.chmod(0o666 if node.is_file() else 0o755)
    return root
