"""A Jetson Orin's own power sensors: INA3221 chips, read through the kernel's hwmon files.

    P = in{n}_input (mV) × curr{n}_input (mA)
    (Linux Documentation/hwmon/ina3221.rst; there is no power file)

Which rails together are the module is in one table, by the module's part number. The
rails' names are the board's; none is ever called "GPU" that is not only that. Carrier
board, disks, USB and the power supply's loss are on no rail: only a plug sees those.

No root is needed. Each register is a transfer on I2C, about half a millisecond.
Untried on a board: written from device trees and others' dumps (docs/jetson.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import BadReading, DriverError, NotPresent, NotSupported
from drivers.instants import boottime_s, suspended_s
from drivers.integral import Integral
from drivers.jetson import find_board
from drivers.protocols import Cadence, Sample
from drivers.sensor_file import read_number
from drivers.tree import Tree

CHIPS = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
CHANNELS = (1, 2, 3)
UNUSED = "NC"  # label of a channel that is not connected

HIGHEST_MV = 26_000  # of bus voltage that the chip can measure (INA3221 data sheet, 7.3)
OFFSET_MA = 40
"""An unloaded rail may show that much too little: ±80 µV (data sheet, 7.5) over 2 mΩ."""


@dataclass(frozen=True, slots=True)
class Supply:
    """Which rails feed a module.

    total  rails that together are all of it, and do not feed one another
    max_w  more it cannot draw
    """

    total: tuple[str, ...]
    max_w: float


SUPPLIES = {
    # Rails: Linux arch/arm64/boot/dts/nvidia/tegra234-p3701.dtsi. No rail is the module's
    # input. VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0 (NVIDIA's forum, not verified here: about
    # 1 W; `energy.rails` is there to add it). 60 W is the highest power mode.
    "p3701": Supply(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), max_w=120.0),
    # Orin NX and Nano: "VDD_IN is the total power of module" (NVIDIA's forum, 200883).
    # 40 W is the highest power mode.
    "p3767": Supply(("VDD_IN",), max_w=60.0),
}
UNKNOWN_MAX_W = 250.0


@dataclass(frozen=True, slots=True)
class Rail:
    """A supply line: its name, and the files that say how much goes through it."""

    name: str
    millivolts: Path
    milliamperes: Path


class Ina3221Meter:
    """Adds up what the module draws, and each rail for itself.

    total  rails whose sum is the module, instead of the table's
    """

    name = "ina3221"
    source = "integral"
    device = "module"
    wakes_device = False
    blocks = True
    idle_w: float | None = None
    most_w = UNKNOWN_MAX_W

    def __init__(
        self,
        *,
        total: Sequence[str] = (),
        root: Path = Path("/"),
        now: Callable[[], float] = boottime_s,
        suspended: Callable[[], float] = suspended_s,
    ) -> None:
        self.rails: tuple[str, ...] = ()
        self.resolution_s = self.window_s = 0.1
        self.cadence = Cadence(busy_hz=10.0, moving_hz=10.0, idle_s=1.0)
        self._total = tuple(total)
        self._root, self._now, self._suspended = root, now, suspended
        self._found: list[Rail] = []
        self._integral: Integral | None = None

    def open(self) -> None:
        if self._found:
            return
        found = self._find()
        supply = self._supply(tuple(rail.name for rail in found))
        self._total, self.most_w = supply.total, supply.max_w
        self._found = found
        self.rails = tuple(rail.name for rail in found)
        if self._integral is None:
            self._integral = Integral(
                self.name, max_w=supply.max_w, max_gap_s=2.5 * self.cadence.rest_s
            )
        try:
            self.sample()
        except DriverError:
            self.close()
            raise

    def sample(self) -> Sample:
        power_w_by_rail = {rail.name: self._power_w(rail) for rail in self._found}
        assert self._integral is not None
        return self._integral.add(
            self._now(),
            sum(power_w_by_rail[name] for name in self._total),
            power_w_by_rail,
            suspended_s=self._suspended(),
        )

    def close(self) -> None:
        self._found = []  # a chip whose driver is bound anew has other paths

    def _find(self) -> list[Rail]:
        """Raises NotPresent, NotSupported."""
        found: dict[str, Rail] = {}
        for chip in sorted(self._root.glob(CHIPS)):
            tree = Tree(chip)
            # It averages that long; looked at more often, it says the same (milliseconds).
            every_ms = tree.number("update_interval") or 0
            self.resolution_s = self.window_s = max(self.resolution_s, every_ms / 1000)
            for n in CHANNELS:
                name = tree.text(f"in{n}_label")
                if name in {"", UNUSED} or tree.number(f"in{n}_enable") == 0:
                    continue
                if name in found:
                    raise NotSupported(self.name, f"two rails are called {name}")
                found[name] = Rail(name, chip / f"in{n}_input", chip / f"curr{n}_input")
        if not found:
            raise NotPresent(self.name, f"no sensor with a named rail below {self._root / CHIPS}")
        hz = 1 / self.resolution_s
        self.cadence = Cadence(busy_hz=hz, moving_hz=hz, idle_s=1.0)
        return list(found.values())

    def _supply(self, names: tuple[str, ...]) -> Supply:
        """Raises NotSupported."""
        board = find_board(Tree(self._root))
        module = board.module if board else ""
        known = SUPPLIES.get(module.partition("-")[0])
        total = self._total or (known.total if known else ())
        if not total:
            raise NotSupported(
                self.name,
                f"which of {', '.join(names)} together are all of module {module or 'unknown'} "
                "is not known; name them in energy.rails",
            )
        if missing := [name for name in total if name not in names]:
            raise NotSupported(
                self.name, f"no rail {', '.join(missing)} here, only {', '.join(names)}"
            )
        return Supply(total, known.max_w if known else UNKNOWN_MAX_W)

    def _power_w(self, rail: Rail) -> float:
        millivolts = read_number(self.name, rail.millivolts)
        milliamperes = read_number(self.name, rail.milliamperes)
        if not 0 <= millivolts <= HIGHEST_MV or milliamperes < -OFFSET_MA:
            raise BadReading(self.name, f"{rail.name}: {millivolts} mV, {milliamperes} mA")
        return millivolts * max(milliamperes, 0) / 1e6
