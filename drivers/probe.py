"""What is on this machine, and for each absence the reason, as data.

Looks at files only: it opens no CUDA, no NVML and no device, so that a suspended
GPU goes on sleeping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; class of display controllers (pci.ids)

# First driver whose CUDA knows CUDA_DISABLE_PERF_BOOST.
BOOST_SWITCH = (580, 105)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU, as its driver or the PCI bus shows it.

    address  on the PCI bus, e.g. "0000:3b:00.0"
    model    "" where no driver says it
    uuid     likewise; the driver does not know it before the GPU's first use
    runtime  "active", "suspended" or "unsupported" (power/runtime_status in sysfs)
    """

    address: str
    model: str = ""
    uuid: str = ""
    runtime: str = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a probe has found.

    gpus          that this process could use
    driver        version of NVIDIA's kernel driver, "" without one
    persistenced  the persistence daemon runs: the driver stays loaded in rest. It may
                  stay so without it, by the older persistence mode, which no file shows
    boost_switch  CUDA_DISABLE_PERF_BOOST works: an idle awake GPU draws no more
    meter         "nvml" or "cpu-time": what counts joules here
    absent        what is not here -> why
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    persistenced: bool = False
    boost_switch: bool = False
    meter: str = "cpu-time"
    absent: dict[str, str]


def probe(root: Path = Path("/")) -> Machine:
    """Look around. Never raises: what cannot be read is absent, with the reason."""
    absent: dict[str, str] = {}
    driver = driver_version(root)
    found = _pci_gpus(root)
    gpus = tuple(_with_driver_facts(root, gpu) for gpu in found)
    if not found:
        absent["gpu"] = "no NVIDIA display controller on the PCI bus"
    elif not driver:
        absent["gpu"] = f"{found[0].address} is here, but its kernel driver is not loaded"
    elif not (root / "dev/nvidiactl").exists():
        absent["gpu"] = (
            f"{found[0].address} has its driver, but no /dev/nvidiactl is passed in here"
        )
    if "gpu" in absent:
        gpus = ()
        absent["nvml"] = "needs a GPU"
    persistenced = (root / "run/nvidia-persistenced/socket").exists()
    if gpus and not persistenced:
        absent["persistenced"] = "no socket in /run/nvidia-persistenced (NVML knows the old mode)"
    boost_switch = bool(gpus) and _version(driver) >= BOOST_SWITCH
    if gpus and not boost_switch:
        absent["boost_switch"] = f"needs driver 580.105, this is {driver}"
    return Machine(
        gpus=gpus,
        driver=driver,
        persistenced=persistenced,
        boost_switch=boost_switch,
        meter="nvml" if gpus else "cpu-time",
        absent=absent,
    )


def nvidia_gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process could use. Wakes none of them."""
    return probe(root).gpus


def driver_version(root: Path = Path("/")) -> str:
    """Version of the NVIDIA kernel driver that is loaded, or ""."""
    # The first line ends in "… Kernel Module [for x86_64]  580.159.04  Release Build …".
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _read(root / "proc/driver/nvidia/version"))
    return found[0] if found else ""


def _pci_gpus(root: Path) -> list[Gpu]:
    """By the bus and by the driver: a container may be shown only one of the two."""
    devices = root / "sys/bus/pci/devices"
    on_bus = {
        device.name
        for device in devices.glob("*")
        if _read(device / "vendor") == NVIDIA and _read(device / "class").startswith(DISPLAY)
    }
    driven = {entry.name for entry in (root / "proc/driver/nvidia/gpus").glob("*")}
    return [
        Gpu(
            address=address,
            runtime=_read(devices / address / "power/runtime_status") or "unsupported",
        )
        for address in sorted(on_bus | driven)
    ]


def _with_driver_facts(root: Path, gpu: Gpu) -> Gpu:
    text = _read(root / "proc/driver/nvidia/gpus" / gpu.address / "information")
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    uuid = facts.get("GPU UUID", "").strip()
    return Gpu(
        address=gpu.address,
        model=facts.get("Model", "").strip(),
        uuid="" if "?" in uuid else uuid,  # "GPU-????????-…" until its first use
        runtime=gpu.runtime,
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
