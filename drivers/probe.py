"""What is on this machine, and for each absence the reason, as data.

Looks at files only: it opens no CUDA, no NVML and no device, so that a suspended
GPU goes on sleeping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.host_memory import Memory, memory
from drivers.ina3221 import CHIPS
from drivers.jetson import Board, find_board
from drivers.tree import Tree

NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; class of display controllers (pci.ids)

# First driver whose CUDA knows CUDA_DISABLE_PERF_BOOST.
BOOST_SWITCH = (580, 105)

# What CUDA opens. Either of a Jetson's two control nodes is enough: the first is JetPack 6's.
NODES = ("dev/nvidiactl", "dev/nvidia-uvm")
TEGRA_NODES = ("dev/nvgpu/igpu0/ctrl", "dev/nvhost-ctrl-gpu")
TEGRA_MEMORY_NODE = "dev/nvmap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU, as its driver or the bus shows it.

    address  on the PCI bus, e.g. "0000:3b:00.0"; a Jetson's: its devfreq device
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
    found         all that are here, usable or not
    driver        version of NVIDIA's kernel driver that is loaded, "" without one
    persistenced  the persistence daemon runs: the driver stays loaded in rest. It may
                  stay so without it, by the older persistence mode, which no file shows
    boost_switch  CUDA_DISABLE_PERF_BOOST works: an idle awake GPU draws no more
    meter         "nvml", "ina3221" or "cpu-time": what counts joules here
    memory        of the host
    unified       GPU and CPU share that memory
    jetson        the board, if it is one
    absent        what is not here -> why
    """

    gpus: tuple[Gpu, ...] = ()
    found: tuple[Gpu, ...] = ()
    driver: str = ""
    persistenced: bool = False
    boost_switch: bool = False
    meter: str = "cpu-time"
    memory: Memory = field(default_factory=Memory)
    unified: bool = False
    jetson: Board | None = None
    absent: dict[str, str]


def probe(root: Path = Path("/")) -> Machine:
    """Look around. Never raises: what cannot be read is absent, with the reason."""
    tree = Tree(root)
    board = find_board(tree)
    shared = Machine(
        driver=driver_version(root),
        memory=memory(tree),
        jetson=board,
        absent={},
    )
    return _with_pci_gpus(shared, tree) if board is None else _with_tegra_gpu(shared, board, tree)


def nvidia_gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process could use. Wakes none of them."""
    return probe(root).gpus


def driver_version(root: Path = Path("/")) -> str:
    """Version of the NVIDIA kernel driver that is loaded, or ""."""
    # The first line ends in "… Kernel Module [for x86_64]  580.159.04  Release Build …".
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", Tree(root).text("proc/driver/nvidia/version"))
    return found[0] if found else ""


def driver_installed(root: Path = Path("/")) -> bool:
    """Whether the kernel that runs has a module of NVIDIA's driver, loaded or not."""
    tree = Tree(root)
    release = tree.text("proc/sys/kernel/osrelease")
    modules = tree.text(f"lib/modules/{release}/modules.dep")
    return re.search(r"(^|/)nvidia\.ko\b[^:\n]*:", modules, re.MULTILINE) is not None


def _with_pci_gpus(machine: Machine, tree: Tree) -> Machine:
    found = _pci_gpus(tree)
    reasons: dict[str, str] = {}
    if not found:
        reasons["gpu"] = "no NVIDIA display controller on the PCI bus"
    elif not machine.driver:
        reasons["gpu"] = f"{found[0].address} is here, but its kernel driver is not loaded"
    elif not tree.has(NODES[0]):
        reasons["gpu"] = (
            f"{found[0].address} has its driver, but no /dev/nvidiactl is passed in here"
        )
    gpus = () if reasons else found
    if not gpus:
        reasons["nvml"] = "needs a GPU"
    persistenced = tree.has("run/nvidia-persistenced/socket")
    if gpus and not persistenced:
        reasons["persistenced"] = "no socket in /run/nvidia-persistenced (NVML knows the old mode)"
    boost_switch = bool(gpus) and _version(machine.driver) >= BOOST_SWITCH
    if gpus and not boost_switch:
        reasons["boost_switch"] = f"needs driver 580.105, this is {machine.driver}"
    return replace(
        machine,
        gpus=gpus,
        found=found,
        persistenced=persistenced,
        boost_switch=boost_switch,
        meter="nvml" if gpus else "cpu-time",
        # The DGX Spark's: its memory is the host's, too.
        unified=any("GB10" in gpu.model for gpu in found),
        absent=reasons,
    )


def _with_tegra_gpu(machine: Machine, board: Board, tree: Tree) -> Machine:
    clock = board.gpu
    gpu = Gpu(
        address=clock.name if clock else "gpu",
        model=f"{board.name}, integrated",
        runtime=clock.runtime if clock else "unsupported",
    )
    reasons = {
        "nvml": "a Jetson's has no counter of joules",
        "boost_switch": "untried on a Jetson, whose clock follows the load by itself",
    }
    if not any(tree.has(node) for node in TEGRA_NODES):
        reasons["gpu"] = "neither /dev/nvgpu nor /dev/nvhost-ctrl-gpu is here"
    return replace(
        machine,
        gpus=() if "gpu" in reasons else (gpu,),
        found=(gpu,),
        meter="ina3221" if any(tree.root.glob(CHIPS)) else "cpu-time",
        unified=True,
        absent=reasons,
    )


def _pci_gpus(tree: Tree) -> tuple[Gpu, ...]:
    """By the bus and by the driver: a container may be shown only one of the two."""
    bus = "sys/bus/pci/devices"
    on_bus = {
        name
        for name in tree.names(bus)
        if tree.text(f"{bus}/{name}/vendor") == NVIDIA
        and tree.text(f"{bus}/{name}/class").startswith(DISPLAY)
    }
    driven = set(tree.names("proc/driver/nvidia/gpus"))
    return tuple(
        _gpu(tree, address, tree.text(f"{bus}/{address}/power/runtime_status"))
        for address in sorted(on_bus | driven)
    )


def _gpu(tree: Tree, address: str, runtime: str) -> Gpu:
    text = tree.text(f"proc/driver/nvidia/gpus/{address}/information")
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    uuid = facts.get("GPU UUID", "").strip()
    return Gpu(
        address=address,
        model=facts.get("Model", "").strip(),
        uuid="" if "?" in uuid else uuid,  # "GPU-????????-…" until its first use
        runtime=runtime or "unsupported",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
