"""What the processor says it has used: RAPL, through the kernel's powercap files.

    /sys/class/powercap/intel-rapl:N/{name,energy_uj,max_energy_range_uj}    a package
    /sys/class/powercap/intel-rapl:N:M/…                                     a part of package N

(Linux Documentation/power/powercap/powercap.rst; the same names on AMD's Zen.) The total is
all packages and all memory: cores and uncore are inside their package, memory is not, though
it stands below it (Intel SDM vol. 3, "RAPL domains"). Left out are psys, which has no
agreed meaning, and intel-rapl-mmio, which shows the packages a second time.

Since CVE-2020-8694 only root may read the counters (kernel 5.10): see GRANT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.continuity import Continuity
from drivers.errors import DriverError, NotPresent, NotSupported
from drivers.instants import boottime_s
from drivers.protocols import Cadence, Sample
from drivers.sensor_file import read_number
from drivers.tree import Tree

POWERCAP = "sys/class/powercap"

MAX_W = 1000.0
"""Of one package or its memory: more than any draws (the largest are sold with 500 W)."""

GRANT = (
    "only root may since CVE-2020-8694 (what other programs compute may be guessed from it). To "
    "let the service read it, put into /etc/tmpfiles.d/wattnap-rapl.conf the lines "
    "'z /sys/devices/virtual/powercap/intel-rapl/*/energy_uj 0440 root wattnap' and "
    "'z /sys/devices/virtual/powercap/intel-rapl/*/*/energy_uj 0440 root wattnap', and run "
    "'systemd-tmpfiles --create'"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter. `counts`: it belongs to the total."""

    name: str
    counts: bool
    microjoules: Path
    wrap_j: float
    counter: Continuity


def counters(root: Path = Path("/")) -> list[Path]:
    """The files that have to be readable."""
    return sorted((root / POWERCAP).glob("intel-rapl:*/energy_uj"))


class RaplMeter:
    """Counts the joules of all packages and their memory; each zone is a rail."""

    name = "rapl"
    source = "counter"
    device = "cpu"
    wakes_device = False
    blocks = False
    idle_w: float | None = None
    window_s = resolution_s = 0.001  # the counters move every millisecond (Intel SDM vol. 3)

    def __init__(self, *, root: Path = Path("/"), now: Callable[[], float] = boottime_s) -> None:
        self.rails: tuple[str, ...] = ()
        self.cadence = Cadence()
        self.most_w = MAX_W
        self._root, self._now = root, now
        self._zones: tuple[Zone, ...] = ()
        self._opened = False
        self._epoch = 0

    def open(self) -> None:
        if self._opened:
            return
        if not self._zones:
            self._zones = self._find()
            self.rails = tuple(zone.name for zone in self._zones)
            self.most_w = MAX_W * sum(zone.counts for zone in self._zones)
            # At least every quarter of what the fastest imaginable one needs to run over.
            quarter_s = min(zone.wrap_j for zone in self._zones) / MAX_W / 4
            self.cadence = Cadence(rest_s=min(30.0, quarter_s), idle_s=min(10.0, quarter_s))
        self._opened = True
        try:
            self.sample()
        except DriverError:
            self.close()
            raise

    def sample(self) -> Sample:
        energy_j_by_rail: dict[str, float] = {}
        epochs = 0
        at_s = self._now()
        for zone in self._zones:
            joules = read_number(self.name, zone.microjoules, grant=GRANT) / 1e6
            energy_j_by_rail[zone.name] = zone.counter.take(at_s, joules)
            epochs += zone.counter.epoch
        return Sample(
            at_s,
            sum(energy_j_by_rail[zone.name] for zone in self._zones if zone.counts),
            epochs,
            energy_j_by_rail,
        )

    def close(self) -> None:
        self._opened = False

    def _find(self) -> tuple[Zone, ...]:
        """Raises NotPresent, NotSupported."""
        tree = Tree(self._root)
        zones: list[Zone] = []
        for entry in tree.names(POWERCAP):
            place, *numbers = entry.split(":")
            kind = tree.text(f"{POWERCAP}/{entry}/name")
            if place != "intel-rapl" or not numbers or kind == "psys":
                continue
            above = tree.text(f"{POWERCAP}/{place}:{numbers[0]}/name")
            folder = self._root / POWERCAP / entry
            wrap_j = read_number(self.name, folder / "max_energy_range_uj") / 1e6
            if wrap_j <= 0:
                raise NotSupported(self.name, f"{folder} does not say where its counter ends")
            zones.append(
                Zone(
                    name=kind if len(numbers) == 1 else f"{above}/{kind}",
                    counts=kind.startswith("package") or kind == "dram",
                    microjoules=folder / "energy_uj",
                    wrap_j=wrap_j,
                    counter=Continuity(self.name, max_per_s=MAX_W, wrap=wrap_j),
                )
            )
        if not any(zone.counts for zone in zones):
            raise NotPresent(self.name, f"no package in {self._root / POWERCAP}")
        return tuple(zones)
