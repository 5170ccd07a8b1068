"""One run of joules from a plug's counter, which is right but coarse, and its power.

Between two steps of the counter the power is added up; at each step the sum is compared
with the counter, and what it was wrong by is made up over what comes: gently while it is
no more than a step or two, else at once. Never does the sum run backwards: if it was too
large, it waits. So it is never further from the counter than about two of its steps and
what is drawn between two messages, and in the long run it is the counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.continuity import Continuity
from drivers.errors import BadReading
from drivers.plug_message import PlugReading

LONGEST_S = 60.0
"""Between two messages that are further apart, the power is not thought to be a line."""

GENTLY = 0.2
"""Share of the power by which a small error is made up."""

FINE = 20
"""A counter that has moved by so many of its steps is known to a twentieth."""


@dataclass(frozen=True, slots=True)
class _Seen:
    at_s: float
    power_w: float | None
    counter_j: float


class PlugEnergy:
    """Follows one plug. `epoch` belongs to what `take` has returned last.

    max_w  more no plug can carry
    """

    def __init__(self, device: str, *, max_w: float) -> None:
        self.epoch = 0
        self._device, self._max_w = device, max_w
        self._counter = Continuity(device, max_per_s=max_w)
        self._last: _Seen | None = None
        self._energy_j = 0.0
        self._first_j = 0.0  # what the counter showed when the sum was 0
        # Where sum and counter were when the counter was first seen to move; before that,
        # nobody knows how far into a step it is.
        self._anchor: tuple[float, float] | None = None
        self._owed_j = 0.0

    def take(self, at_s: float, reading: PlugReading) -> float:
        """Joules since the epoch began. Raises BadReading; then the sum stands as it was."""
        power_w = reading.power_w
        if power_w is not None and power_w > self._max_w:
            raise BadReading(self._device, f"says that {power_w:g} W go through it")
        counter_j = self._counter.take(at_s, reading.energy_j, step=reading.step_j)
        now, last = _Seen(at_s, power_w, counter_j), self._last
        self._last = now
        if last is None or self._counter.epoch != self.epoch:
            self.epoch = self._counter.epoch
            self._energy_j, self._owed_j = 0.0, 0.0
            self._first_j, self._anchor = counter_j, None
        else:
            passed_j = self._passed_j(last, now)
            self._energy_j += passed_j + self._paid_j(passed_j, reading.step_j)
            if counter_j > last.counter_j:
                self._compare(counter_j, reading.step_j)
        return self._energy_j

    def _passed_j(self, last: _Seen, now: _Seen) -> float:
        """What was drawn between two messages."""
        elapsed_s = now.at_s - last.at_s
        if last.power_w is not None and now.power_w is not None and elapsed_s <= LONGEST_S:
            return (last.power_w + now.power_w) / 2 * elapsed_s
        if self._anchor is None:
            return now.counter_j - last.counter_j
        return max(0.0, self._right_j(self._anchor, now.counter_j) - self._energy_j)

    def _paid_j(self, passed_j: float, step_j: float) -> float:
        """Of what is owed, as much as may come with `passed_j`; negative: the sum waits."""
        too_much = self._owed_j < -2 * step_j
        lowest_j = -passed_j if too_much else -GENTLY * passed_j
        paid_j = max(lowest_j, min(self._owed_j, GENTLY * passed_j))
        self._owed_j -= paid_j
        return paid_j

    def _compare(self, counter_j: float, step_j: float) -> None:
        """The counter has just moved: now it is exact."""
        if self._anchor is None:
            fine = counter_j - self._first_j >= FINE * step_j
            self._anchor = (0.0, self._first_j) if fine else (self._energy_j, counter_j)
        self._owed_j = self._right_j(self._anchor, counter_j) - self._energy_j
        if self._owed_j > 2 * step_j:
            self._energy_j += self._owed_j
            self._owed_j = 0.0

    @staticmethod
    def _right_j(anchor: tuple[float, float], counter_j: float) -> float:
        energy_j, anchor_j = anchor
        return energy_j + counter_j - anchor_j
