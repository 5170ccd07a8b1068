"""What a Jetson says about itself: module, system, GPU clock, power mode. Reads only.

Written from the kernel's device trees, its devfreq documentation and dumps of boards
that others have published (tests/fixtures/jetson/*/SOURCES.md); untried on a board.

The GPU is no PCI device but a part of the chip, and shares all memory with the CPU.
Its clock is a devfreq device: `17000000.ga10b` under JetPack 5, `17000000.gpu` since
JetPack 6. Nothing here is ever written: pinned clocks and a power mode are the
owner's, and some changes of mode reboot the board.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.tree import Tree

# Linux: Documentation/devicetree/bindings/arm/tegra.yaml and the comments of its p3767 trees.
MODULES = {
    "p3701-0000": "AGX Orin (developer kit)",
    "p3701-0004": "AGX Orin 32GB",
    "p3701-0005": "AGX Orin 64GB",
    "p3701-0008": "AGX Orin Industrial",
    "p3767-0000": "Orin NX 16GB",
    "p3767-0001": "Orin NX 8GB",
    "p3767-0003": "Orin Nano 8GB",
    "p3767-0004": "Orin Nano 4GB",
    "p3767-0005": "Orin Nano 8GB (developer kit)",
}
ORIN = "nvidia,tegra234"
GPU_NODES = frozenset({"gpu", "ga10b"})  # the device tree's names of the GPU
JETPACKS = {35: "5", 36: "6", 38: "7", 39: "7"}  # by the first number of the L4T release
DEVFREQ = "sys/class/devfreq"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClock:
    """The GPU's devfreq device (Documentation/ABI/testing/sysfs-class-devfreq). In hertz.

    name          e.g. "17000000.gpu"
    runtime       "active", "suspended" or "unsupported": its runtime power state
    current_hz    None while it is suspended: then it is not asked
    min_hz        the span that the governor may use
    max_hz
    available_hz  all that the hardware has
    governor      e.g. "nvhost_podgov", which follows the load
    """

    name: str
    runtime: str = "unsupported"
    current_hz: int | None = None
    min_hz: int | None = None
    max_hz: int | None = None
    available_hz: tuple[int, ...] = ()
    governor: str = ""

    @property
    def pinned(self) -> bool:
        """Whether it stays where it is, loaded or not: what jetson_clocks does."""
        narrowed = self.min_hz is not None and self.min_hz == self.max_hz
        return narrowed or self.governor in {"performance", "powersave"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerMode:
    """nvpmodel's mode: caps on clocks and cores. `names`: of all modes of this board, by id."""

    id: int
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.names.get(self.id, str(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One Jetson.

    model   as its device tree calls it; free text, which carriers' makers get wrong
    module  part number and version of the module, e.g. "p3767-0005"; "" if not known
    orin    it is one: the boards that this driver was written for
    l4t     release of NVIDIA's Linux, e.g. "36.4.3"; "" if not said
    """

    model: str
    module: str = ""
    orin: bool = False
    l4t: str = ""
    gpu: GpuClock | None = None
    power_mode: PowerMode | None = None

    @property
    def name(self) -> str:
        """The module's name in shops, else what the device tree says."""
        return f"Jetson {MODULES[self.module]}" if self.module in MODULES else self.model

    @property
    def jetpack(self) -> str:
        """Its first number, or ""."""
        return JETPACKS.get(int(self.l4t.partition(".")[0] or 0), "")


def find_board(tree: Tree) -> Board | None:
    """The Jetson that this is, or None."""
    compatible = tree.text("proc/device-tree/compatible").split("\0")
    release = re.search(
        r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", tree.text("etc/nv_tegra_release")
    )
    if not any(word.startswith("nvidia,tegra") for word in compatible):
        return None
    # "nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", …: carrier+module, module.
    module = re.search(r"\bp(3701|3767)-\d{4}", " ".join(compatible))
    return Board(
        model=tree.text("proc/device-tree/model"),
        module=module[0] if module else "",
        orin=ORIN in compatible,
        l4t=f"{release[1]}.{release[2]}" if release else "",
        gpu=_gpu_clock(tree),
        power_mode=_power_mode(tree),
    )


def _gpu_clock(tree: Tree) -> GpuClock | None:
    for name in tree.names(DEVFREQ):
        folder = f"{DEVFREQ}/{name}"
        if tree.text(f"{folder}/device/of_node/name") not in GPU_NODES:
            continue
        runtime = tree.text(f"{folder}/device/power/runtime_status") or "unsupported"
        available = tree.text(f"{folder}/available_frequencies").split()
        return GpuClock(
            name=name,
            runtime=runtime,
            # The driver may have to power it up to say how fast it runs.
            current_hz=None if runtime == "suspended" else tree.number(f"{folder}/cur_freq"),
            min_hz=tree.number(f"{folder}/min_freq"),
            max_hz=tree.number(f"{folder}/max_freq"),
            available_hz=tuple(int(hz) for hz in available if hz.isdigit()),
            governor=tree.text(f"{folder}/governor"),
        )
    return None


def _power_mode(tree: Tree) -> PowerMode | None:
    """What `nvpmodel -q` says, from the files that it keeps."""
    known = tree.text("etc/nvpmodel.conf")
    # `pmode:0002`, or `pmode:0002 fmode:quiet`; absent until a mode has been chosen.
    now = re.search(r"pmode:(\d+)", tree.text("var/lib/nvpmodel/status")) or re.search(
        r"^< *PM_CONFIG +DEFAULT=(\d+) *>", known, re.MULTILINE
    )
    if now is None:
        return None
    modes = re.findall(r"^< *POWER_MODEL +ID=(\d+) +NAME=(\S+) *>", known, re.MULTILINE)
    return PowerMode(id=int(now[1]), names={int(id): name for id, name in modes})
