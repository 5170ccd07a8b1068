"""A meter whose joules are corrected by a straight line, found with a better meter.

    joules = gain × counted + offset × time

The gain is what a board's sensor is off by, and what its power supply loses; the offset what
the rest of the box draws that this meter does not see (`wattnap meter fit`).
"""

from __future__ import annotations

from drivers.protocols import Meter, Sample


class Fitted:
    """`meter`, corrected. Its rails are as the board says them.

    Its device has another name, for what was learned about the one that is not corrected is
    not true of it. What it says never runs backwards: where the offset would, it waits.
    """

    def __init__(self, meter: Meter, *, gain: float = 1.0, offset_w: float = 0.0) -> None:
        """Raises ValueError for a gain that is not above 0."""
        if gain <= 0:
            raise ValueError(f"gain must be more than 0, not {gain}")
        self.meter, self.gain, self.offset_w = meter, gain, offset_w
        self.name, self.source = meter.name, meter.source
        self._begun: Sample | None = None
        self._last: Sample | None = None
        self._look()

    def open(self) -> None:
        self.meter.open()
        self._look()

    def sample(self) -> Sample:
        found = self.meter.sample()
        begun = self._begun
        if begun is None or begun.epoch != found.epoch:
            self._begun = begun = found
            self._last = None
        energy_j = self.gain * found.energy_j + self.offset_w * (found.at_s - begun.at_s)
        if self._last is not None:
            energy_j = max(energy_j, self._last.energy_j)
        self._last = Sample(found.at_s, max(0.0, energy_j), found.epoch, found.energy_j_by_rail)
        return self._last

    def close(self) -> None:
        self.meter.close()

    def _look(self) -> None:
        """What may be known only once it is open."""
        meter = self.meter
        self.device = f"{meter.device} × {self.gain:g} + {self.offset_w:g} W"
        self.rails, self.blocks = meter.rails, meter.blocks
        self.wakes_device, self.cadence = meter.wakes_device, meter.cadence
        self.resolution_s, self.window_s = meter.resolution_s, meter.window_s
        self.most_w = max(0.0, self.gain * meter.most_w + self.offset_w)
        self.idle_w: float | None = None
        if meter.idle_w is not None:
            self.idle_w = max(0.0, self.gain * meter.idle_w + self.offset_w)
