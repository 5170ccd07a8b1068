"""An NVIDIA GPU's joules, through NVML: its own counter, or the sum of its power.

The counter is in the GPU, in millijoules since the driver was loaded, on Volta and
newer (nvmlDeviceGetTotalEnergyConsumption). It counts while nobody reads, so that
how often it is read does not matter to the sum. On an H200 with driver 580.159 it
moves every 100 ms. Reading it takes 3 ms, now and then 16, and the core works all the
while; power takes 0.23 ms (docs/measurements/2026-11-21-meters.md).

The sum of power is there to check the counter by, and for GPUs that have none. What
NVML calls power is the mean of the last second on Ampere and newer, but for the GA100
(nvmlDeviceGetPowerUsage): looked at once a second or more, nothing is left out.

An open NVML keeps the driver loaded, and a reading wakes a suspended GPU: whoever
owns the meter decides when it is open (`wakes_device`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from drivers.continuity import Continuity
from drivers.errors import BadReading, DriverError
from drivers.instants import boottime_s, suspended_s
from drivers.integral import Integral
from drivers.nvml_gpu import NvmlGpu
from drivers.protocols import Cadence, Sample

OVERSHOOT = 1.5
"""How far above its power limit a GPU may be seen for a moment."""


class NvmlMeter:
    """Counts the joules of one GPU: the one with `uuid`, else at PCI `address`, else the first.

    `device` is the GPU's UUID from the first open() on.
    """

    blocks = True
    rails: tuple[str, ...] = ()
    resolution_s = 0.1
    idle_w: float | None = None

    def __init__(
        self,
        by: Literal["counter", "power"] = "counter",
        *,
        uuid: str = "",
        address: str = "",
        root: Path = Path("/"),
        nvml: Any = None,  # pynvml, which has no types, or what stands in for it
        now: Callable[[], float] = boottime_s,
        suspended: Callable[[], float] = suspended_s,
    ) -> None:
        self.name = "nvml" if by == "counter" else "nvml-power"
        self.source = "counter" if by == "counter" else "integral"
        # A look at the counter is 0.5 % of a core's second; nothing is lost between two.
        # Between two looks at power a straight line is drawn, and moves are short and steep.
        self.cadence = (
            Cadence(busy_hz=0.5) if by == "counter" else Cadence(busy_hz=2.0, moving_hz=5.0)
        )
        # What NVML calls power is the mean of the last second on most GPUs.
        self.window_s = self.resolution_s + (0.0 if by == "counter" else 1.0)
        self.wakes_device = True
        self._gpu = NvmlGpu(uuid=uuid, address=address, root=root, nvml=nvml)
        self.device = self._gpu.name
        self.most_w = OVERSHOOT * self._gpu.limit_w
        self._by, self._now, self._suspended = by, now, suspended
        self._counter: Continuity | None = None
        self._integral: Integral | None = None

    def open(self) -> None:
        gpu = self._gpu
        if gpu.opened:
            return
        gpu.open()
        try:
            self.device = gpu.uuid
            self.wakes_device = not gpu.persistent or gpu.may_suspend
            if self._counter is None or self._integral is None:
                self.most_w = OVERSHOOT * gpu.limit_w
                self._counter = Continuity(gpu.uuid, max_per_s=self.most_w)
                self._integral = Integral(
                    gpu.uuid, max_w=self.most_w, max_gap_s=2.5 * self.cadence.rest_s
                )
            elif not gpu.persistent:
                # Nobody kept the driver loaded while we were away: the counter may
                # have begun anew and passed its old value since.
                self._counter.restart()
            self.sample()
        except DriverError:
            self.close()
            raise

    def sample(self) -> Sample:
        assert self._counter is not None
        assert self._integral is not None
        if self._by == "power":
            power_w = self._thousandth("nvmlDeviceGetPowerUsage")
            return self._integral.add(self._now(), power_w, suspended_s=self._suspended())
        energy_j = self._thousandth("nvmlDeviceGetTotalEnergyConsumption")
        at_s = self._now()
        energy_j = self._counter.take(at_s, energy_j)
        return Sample(at_s, energy_j, self._counter.epoch)

    def close(self) -> None:
        self._gpu.close()

    def _thousandth(self, question: str) -> float:
        """NVML counts in milliwatts and millijoules."""
        said = self._gpu.ask(question)
        if isinstance(said, bool) or not isinstance(said, int | float):
            raise BadReading(self.device, f"NVML answers {said!r}")
        return said / 1000
