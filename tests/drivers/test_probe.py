from __future__ import annotations

from pathlib import Path

import pytest

from drivers.probe import Gpu, driver_installed, driver_version, nvidia_gpus, probe
from tests.trees import (
    BASE,
    BOARDS,
    DRIVER,
    GPU,
    INFORMATION,
    INSTALLED,
    NODE,
    PCI,
    jetson,
    old_driver,
    write,
)


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
    root = write(tmp_path, PCI | GPU | NODE | old_driver(version))

    assert driver_version(root) == version
    assert probe(root).boost_switch is works


def test_a_driver_that_is_installed_but_not_loaded(tmp_path: Path) -> None:
    """Its module is in the list of the kernel that runs; nvidia-uvm alone is no driver."""
    root = write(tmp_path, BASE | PCI | INSTALLED)
    assert driver_installed(root)
    (module,) = INSTALLED
    write(root, {module: "updates/nvidia-uvm.ko: updates/x.ko\n"})

    assert not driver_installed(root)
    assert probe(root).found[0].address == "0000:19:00.0"


@pytest.mark.parametrize("board", BOARDS)
def test_a_jetson(tmp_path: Path, board: str) -> None:
    """Its GPU can be used, shares all memory, and no NVML counts its joules."""
    found = probe(jetson(board, tmp_path))
    (gpu,) = found.gpus

    assert gpu.address.startswith("17000000.")
    assert gpu.runtime == "active"
    assert found.unified
    assert not found.boost_switch
    assert found.meter == "ina3221"
    assert set(found.absent) == {"nvml", "boost_switch"}
    assert found.memory.total_bytes > found.memory.available_bytes > 1 << 30
    assert all(swap.compressed for swap in found.memory.swaps)


def test_a_jetson_without_its_devices(tmp_path: Path) -> None:
    """In a container that is not given them, the GPU is there but not for us."""
    root = jetson("orin-nx", tmp_path)
    (root / "dev/nvgpu/igpu0/ctrl").unlink()
    found = probe(root)

    assert (len(found.gpus), len(found.found)) == (0, 1)
    assert "/dev/nvgpu" in found.absent["gpu"]


def test_this_machine() -> None:
    """Whatever machine this is, the probe answers."""
    assert probe().meter in {"nvml", "ina3221", "cpu-time"}


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_a_real_gpu_is_found() -> None:
    """Where NVML works the probe finds the GPU without it."""
    found = probe()

    assert found.gpus
    assert found.driver
    assert found.meter == "nvml"
