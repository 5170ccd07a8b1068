"""Joules from readings of power, by the trapezoid rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.errors import BadReading
from drivers.protocols import Sample

SHORTEST_SUSPEND_S = 0.5
"""Less is no suspend, but our being preempted between the readings of two clocks."""


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    power_w: float
    power_w_by_rail: Mapping[str, float]
    suspended_s: float


class Integral:
    """Sums one sensor's readings. Between two, power is a straight line.

    Across a gap it is not guessed: after more than `max_gap_s` without a reading, or after
    the box was suspended, a new epoch begins.

    max_w  more than that the device cannot draw: such a reading is refused
    """

    def __init__(self, device: str, *, max_w: float, max_gap_s: float) -> None:
        self._device, self._max_w, self._max_gap_s = device, max_w, max_gap_s
        self._last: _Reading | None = None
        self._energy_j = 0.0
        self._energy_j_by_rail: dict[str, float] = {}
        self._epoch = 0

    def add(
        self,
        at_s: float,
        power_w: float,
        power_w_by_rail: Mapping[str, float] | None = None,
        *,
        suspended_s: float = 0.0,
    ) -> Sample:
        """The sum up to this reading. `suspended_s`: how long the box has slept since boot.

        Raises BadReading for a power that cannot be; the sum stands as it was.
        """
        by_rail = power_w_by_rail or {}
        if not all(
            math.isfinite(w) and 0 <= w <= self._max_w for w in (power_w, *by_rail.values())
        ):
            told = ", ".join(f"{rail} {w:g} W" for rail, w in by_rail.items())
            raise BadReading(
                self._device,
                f"says it draws {power_w:g} W{f' ({told})' if told else ''}; "
                f"possible is 0 to {self._max_w:g} W",
            )
        now, last = _Reading(at_s, power_w, by_rail, suspended_s), self._last
        if last is None or not self._continues(last, now):
            self._epoch += last is not None
            self._energy_j = 0.0
            self._energy_j_by_rail = dict.fromkeys(by_rail, 0.0)
        else:
            half_s = (at_s - last.at_s) / 2
            self._energy_j += half_s * (last.power_w + power_w)
            for rail, w in by_rail.items():
                self._energy_j_by_rail[rail] += half_s * (last.power_w_by_rail[rail] + w)
        self._last = now
        return Sample(at_s, self._energy_j, self._epoch, dict(self._energy_j_by_rail))

    def _continues(self, last: _Reading, now: _Reading) -> bool:
        return (
            0 <= now.at_s - last.at_s <= self._max_gap_s
            and now.suspended_s - last.suspended_s < SHORTEST_SUSPEND_S
            and now.power_w_by_rail.keys() == last.power_w_by_rail.keys()
        )
