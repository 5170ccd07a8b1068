from __future__ import annotations

from pathlib import Path

import pytest

from drivers.probe import Gpu, driver_version, nvidia_gpus, probe

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


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PCI = {
    "sys/bus/pci/devices/0000:00:01.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:00:01.0/class": "0x030000\n",
    "sys/bus/pci/devices/0000:19:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:19:00.0/class": "0x030200\n",
    "sys/bus/pci/devices/0000:19:00.0/power/runtime_status": "active\n",
    "sys/bus/pci/devices/0000:19:00.1/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:19:00.1/class": "0x040300\n",
}
DRIVER = {"proc/driver/nvidia/version": VERSION}
GPU = {"proc/driver/nvidia/gpus/0000:19:00.0/information": INFORMATION}
NODE = {"dev/nvidiactl": ""}


def test_a_whole_machine(tmp_path: Path) -> None:
    """Driver, GPU, boost switch and meter are found; the sound device is no GPU."""
    found = probe(write(tmp_path, PCI | DRIVER | GPU | NODE))

    assert found.gpus == (
        Gpu(address="0000:19:00.0", model="NVIDIA H200", uuid="GPU-0b1c", runtime="active"),
    )
    assert (found.driver, found.boost_switch, found.meter) == ("580.159.04", True, "nvml")
    assert set(found.absent) == {"persistenced"}


def test_an_empty_machine(tmp_path: Path) -> None:
    """Nothing is found, each absence has its reason, and the CPU's time is the meter."""
    found = probe(tmp_path)

    assert found.gpus == ()
    assert found.meter == "cpu-time"
    assert set(found.absent) == {"gpu", "nvml"}


def test_a_container_without_the_bus(tmp_path: Path) -> None:
    """Where the bus is hidden, the driver's own list is enough."""
    (gpu,) = nvidia_gpus(write(tmp_path, DRIVER | GPU | NODE))

    assert (gpu.address, gpu.runtime) == ("0000:19:00.0", "unsupported")


@pytest.mark.parametrize(
    ("files", "reason"), [(PCI, "not loaded"), (PCI | DRIVER | GPU, "/dev/nvidiactl")]
)
def test_a_gpu_out_of_reach(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    """A GPU that this process could not use is absent, and it says why."""
    found = probe(write(tmp_path, files))

    assert found.gpus == ()
    assert reason in found.absent["gpu"]


def test_a_gpu_before_its_first_use(tmp_path: Path) -> None:
    """Question marks are no UUID."""
    text = INFORMATION.replace("GPU-0b1c", "GPU-????????-????-????-????-????????????")
    key = "proc/driver/nvidia/gpus/0000:19:00.0/information"
    (gpu,) = nvidia_gpus(write(tmp_path, PCI | DRIVER | NODE | {key: text}))

    assert gpu.uuid == ""


@pytest.mark.parametrize(("version", "works"), [("580.105.08", True), ("570.86.15", False)])
def test_boost_switch_by_driver(tmp_path: Path, version: str, works: bool) -> None:
    """The boost switch is claimed from driver 580.105 on."""
    text = VERSION.replace("580.159.04", version)
    root = write(tmp_path, PCI | GPU | NODE | {"proc/driver/nvidia/version": text})

    assert driver_version(root) == version
    assert probe(root).boost_switch is works


def test_this_machine() -> None:
    """Whatever machine this is, the probe answers."""
    assert probe().meter in {"nvml", "cpu-time"}


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_a_real_gpu_is_found() -> None:
    """Where NVML works the probe finds the GPU without it."""
    found = probe()

    assert found.gpus
    assert found.driver
    assert found.meter == "nvml"
