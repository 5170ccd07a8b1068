"""Whether two meters of the same device agree."""

from __future__ import annotations

from drivers.protocols import Sample

WINDOW_S = 60.0
"""Counter and power of an H200 lag one another by seconds: shorter windows say little."""

TOLERANCE = 0.1


class Crosscheck:
    """Compares one meter with another, a window at a time."""

    def __init__(self, *, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._begun: tuple[Sample, Sample] | None = None
        self.ratio: float | None = None
        """What the other has counted, divided by what the first has, in the last full window."""

    def add(self, first: Sample, other: Sample) -> float | None:
        """The ratio, each time that a window is full; else None."""
        begun = self._begun
        if begun is None or (begun[0].epoch, begun[1].epoch) != (first.epoch, other.epoch):
            self._begun = first, other
            return None
        if min(first.at_s - begun[0].at_s, other.at_s - begun[1].at_s) < self._window_s:
            return None
        self._begun = first, other
        # As mean powers: the two are not read at the same instant.
        one_w = _power_w(begun[0], first)
        self.ratio = _power_w(begun[1], other) / one_w if one_w > 0 else None
        return self.ratio


def _power_w(earlier: Sample, later: Sample) -> float:
    return (later.energy_j - earlier.energy_j) / (later.at_s - earlier.at_s)
