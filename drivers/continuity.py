"""Whether the readings of one counter belong together: wraps, restarts, leaps, two counters.

A counter in hardware or behind a broker may start anew, run over, jump, or be two that
answer by turns. Nothing is ever guessed across such a break: what continues the counter
is passed on, anything else is a new epoch or is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from drivers.errors import BadReading

SLACK_S = 1.0
"""A counter moves in steps: what one reading shows may have been counted this much earlier."""

TWO = 3
"""A counter that so often went away and came back is two counters,"""

CALM = 10
"""until there have been so many readings without a break."""


@dataclass(frozen=True, slots=True)
class _Point:
    at_s: float
    value: float


class Continuity:
    """Follows one counter, of any unit.

    max_per_s  no device counts faster: a rise beyond that is a leap
    wrap       the counter runs over there, and starts at 0
    rounding   a step back of at most that much is the sensor's own, and held
    """

    def __init__(
        self, device: str, *, max_per_s: float, wrap: float | None = None, rounding: float = 0.0
    ) -> None:
        self.epoch = 0
        self._device, self._max_per_s = device, max_per_s
        self._wrap, self._rounding = wrap, rounding
        self._wrapped = 0.0
        self._last: _Point | None = None
        self._before: _Point | None = None  # where the epoch before this one ended
        self._leap: _Point | None = None  # what was refused last
        self._returns = 0  # how often it went away and came back, lately
        self._calm = 0

    def take(self, at_s: float, value: float, *, step: float = 0.0) -> float:
        """What has been counted since the epoch began; `epoch` says which one.

        step  by which the counter moves, if that may be a lot

        Raises BadReading for a value that no counter has; for a leap, once: if the
        counter stays there, that is a new epoch; and for each of two counters that
        answer by turns.
        """
        if not math.isfinite(value) or value < 0 or (self._wrap and value > self._wrap):
            raise BadReading(self._device, f"its counter says {value:g}")
        point, last = _Point(at_s, value), self._last
        if last is None:
            self._last = point
        elif self._is_back(point, step):
            # It is where it was two readings ago. What lies between nobody knows.
            self._note_break()
            self.restart()
            self._last = point
        elif self._follows(last, point, step):
            self._continue(point)
        elif self._has_wrapped(last, point, step):
            self._wrapped += self._wrap or 0.0
            self._continue(point)
        elif 0 < last.value - value <= self._rounding:
            self._last = _Point(at_s, last.value)
        elif (
            value < last.value
            or at_s < last.at_s
            or self._too_late(last, at_s)
            or (self._leap is not None and self._follows(self._leap, point, step))
        ):
            self.restart()
            self._before, self._last = last, point
        else:
            self._leap = point
            self._must_be_one(last, point)
            raise BadReading(
                self._device,
                f"its counter went from {last.value:g} to {value:g} in {at_s - last.at_s:.1f} s",
            )
        self._must_be_one(last or point, point)
        assert self._last is not None
        return self._last.value + self._wrapped

    def restart(self) -> None:
        """Begin a new epoch with the next reading, whatever it is."""
        self.epoch += 1
        self._before = self._last = self._leap = None
        self._wrapped = 0.0
        self._calm = 0

    def _continue(self, point: _Point) -> None:
        if self._leap is not None:
            self._note_break()  # a moment ago it was elsewhere
        self._last, self._leap = point, None
        self._calm += 1
        if self._calm >= CALM:
            self._returns = 0

    def _must_be_one(self, last: _Point, point: _Point) -> None:
        if self._returns >= TWO:
            raise BadReading(
                self._device,
                f"its counter goes to and fro, between {last.value:g} and {point.value:g} now: "
                "two meters seem to answer by turns",
            )

    def _note_break(self) -> None:
        self._returns += 1
        self._calm = 0

    def _is_back(self, point: _Point, step: float) -> bool:
        """It goes on where it was before the break that was just seen."""
        before = self._before
        return before is not None and self._calm == 0 and self._follows(before, point, step)

    def _follows(self, earlier: _Point, later: _Point, step: float) -> bool:
        elapsed_s = later.at_s - earlier.at_s
        if elapsed_s < 0 or self._too_late(earlier, later.at_s):
            return False
        return 0 <= later.value - earlier.value <= self._most(elapsed_s) + step

    def _has_wrapped(self, earlier: _Point, later: _Point, step: float) -> bool:
        return self._wrap is not None and self._follows(
            earlier, _Point(later.at_s, later.value + self._wrap), step
        )

    def _too_late(self, earlier: _Point, at_s: float) -> bool:
        """It may have wrapped more than once since."""
        return self._wrap is not None and self._most(at_s - earlier.at_s) >= self._wrap

    def _most(self, elapsed_s: float) -> float:
        return self._max_per_s * (elapsed_s + SLACK_S)
