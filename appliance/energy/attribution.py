"""Shares the joules that a meter counted between two looks among what went on meanwhile.

Pure arithmetic: no clock, no meter, no file. Whatever goes in, what comes out adds up
to what was counted.

    above = counted - Σ floor × time
    above > 0    goes to those who worked, by what each was expected to draw
    above <= 0   nobody drew anything above the floors; all goes to them, in proportion
    more above   than who worked could draw in that time at all: the floors were higher

Meters see blurred (`Sight`). What is expected is blurred likewise, so that the last second
of a request, which a trailing mean shows only after its end, is not taken for something
else. Yang, Adamek & Armour, "Part-time power measurements", SC'24.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TAIL_S = 10.0
"""A GPU still draws more for so long after a load: 6 to 10 s on an H200, 60 to 100 J
(docs/measurements/2026-11-21-gpu-states.md). Floors are learned only after that."""

_TAIL_STEPS = 8


@dataclass(frozen=True, slots=True)
class Sight:
    """How a meter sees: of the last `window_s` seconds only a part, the later the less.

    most_w  more its device never draws
    """

    window_s: float = 0.0
    most_w: float = math.inf

    def seen_s(self, start_s: float, end_s: float, until_s: float) -> float:
        """How many seconds of a span its sum contains at `until_s`."""
        return self._since(until_s - start_s) - self._since(until_s - end_s)

    def between_s(self, start_s: float, end_s: float, look_s: float, next_s: float) -> float:
        """How many seconds of a span were added to its sum between two looks."""
        return self.seen_s(start_s, end_s, next_s) - self.seen_s(start_s, end_s, look_s)

    def _since(self, elapsed_s: float) -> float:
        if elapsed_s <= 0:
            return 0.0
        if elapsed_s < self.window_s:
            return elapsed_s * elapsed_s / (2 * self.window_s)
        return elapsed_s - self.window_s / 2


def tail_between_s(
    sight: Sight, start_s: float, end_s: float, look_s: float, next_s: float
) -> tuple[float, float]:
    """(seconds of a tail, the same weighted by its height) between two looks.

    A tail begins at `start_s`, at full height, and falls to nothing within TAIL_S, unless
    something ends it before, at `end_s`.
    """
    whole_s = sight.between_s(start_s, min(end_s, start_s + TAIL_S), look_s, next_s)
    if whole_s <= 0:
        return 0.0, 0.0
    # A slope, as a pile of bars.
    heights = 0.0
    for step in range(_TAIL_STEPS):
        bar_s = start_s + TAIL_S * (step + 0.5) / _TAIL_STEPS
        heights += sight.between_s(start_s, min(end_s, bar_s), look_s, next_s)
    return whole_s, heights / _TAIL_STEPS


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that went on between two looks.

    seconds     of it
    floor_w     drawn meanwhile whatever happens; None: not known
    working_s   seconds in which something drew more than that
    expected_j  what that was expected to draw; None: nobody knows
    """

    seconds: float
    floor_w: float | None
    working_s: float = 0.0
    expected_j: float | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """Joules of one part: at the floor, and above it. Never negative."""

    floor_j: float
    above_j: float


def share(counted_j: float, parts: Sequence[Part], most_w: float = math.inf) -> list[Shared]:
    """For each of `parts`, in order. Their sum is `counted_j`, which is 0 or more.

    Where a floor is not known, the mean power of them all stands for it. Nobody draws
    more than `most_w`: what a move of a millisecond cannot have drawn is not its own.

    Raises ValueError if there are none.
    """
    if not parts:
        raise ValueError("there is nothing to share it among")
    whole_s = math.fsum(part.seconds for part in parts)
    floors_j = [
        # Not by way of a mean power: of next to no time there is none.
        counted_j * (part.seconds / whole_s if whole_s > 0 else 0.0)
        if part.floor_w is None
        else part.seconds * part.floor_w
        for part in parts
    ]
    above_j = counted_j - math.fsum(floors_j)
    weights = _weights(parts)
    if above_j <= 0 or not any(weights):
        shares = parted(counted_j, floors_j, [part.seconds for part in parts])
        return [Shared(floor_j, 0.0) for floor_j in shares]
    could_j = most_w * math.fsum(part.working_s for part in parts)
    if above_j > could_j:
        shares = parted(counted_j - could_j, floors_j, [part.seconds for part in parts])
        floors_j, above_j = shares, could_j
    above = parted(above_j, weights, weights)
    return [Shared(*each) for each in zip(floors_j, above, strict=True)]


def parted(whole: float, weights: Sequence[float], otherwise: Sequence[float]) -> list[float]:
    """`whole` in proportion to `weights`; if these are all 0, to `otherwise`, or evenly."""
    for each in (weights, otherwise, [1.0] * len(weights)):
        if (total := math.fsum(each)) > 0:
            return [whole * (weight / total) for weight in each]
    return []


def _weights(parts: Sequence[Part]) -> list[float]:
    """By expectation if there is one for each that worked, else by time."""
    times_s = [max(0.0, part.working_s) for part in parts]
    if any(part.working_s > 0 and part.expected_j is None for part in parts):
        return times_s
    expected_j = [max(0.0, part.expected_j or 0.0) if part.working_s > 0 else 0.0 for part in parts]
    return expected_j if any(expected_j) else times_s
