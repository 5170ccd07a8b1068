"""A simulated device: what draws power, from when to when, and how many joules that is.

It is made of pieces, each of known watts and of one cause, which lie over one another.
Their sum is what a meter sees (drivers.plant_meter); what each cause has drawn is what a
ledger should find. Exact: nothing here is sampled, rounded or random.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple


class Cause(NamedTuple):
    """What power is drawn for.

    line  as in the ledger: "idle", "entering", "waking", "tail", "request"; and "boost",
          which is what an awake engine draws above the floor for nothing
    of    a depth (idle; entering: where to; waking: where from), or a request's id
    """

    line: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """One cause, for a while. Power goes in a straight line from `power_w` to `end_w`.

    end_w  None: it stays what it is
    """

    cause: Cause
    start_s: float
    end_s: float
    power_w: float
    end_w: float | None = None

    def __post_init__(self) -> None:
        if not (self.start_s < self.end_s and min(self.power_w, self.last_w) >= 0):
            raise ValueError(f"a piece lasts, and draws 0 W or more: {self}")

    @property
    def last_w(self) -> float:
        return self.power_w if self.end_w is None else self.end_w

    @property
    def slope(self) -> float:
        """Watts per second."""
        return (self.last_w - self.power_w) / (self.end_s - self.start_s)

    def joules(self, start_s: float, end_s: float) -> float:
        """Of the part that lies between the two instants."""
        start_s, end_s = max(start_s, self.start_s), min(end_s, self.end_s)
        if start_s >= end_s:
            return 0.0
        middle_s = (start_s + end_s) / 2
        return (self.power_w + self.slope * (middle_s - self.start_s)) * (end_s - start_s)


class Plant:
    """All pieces together. Outside them nothing is drawn.

    start_s, end_s  of the first and of the last piece
    peak_w          the most that is ever drawn
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        """Raises ValueError if there are none."""
        self.pieces = tuple(pieces)
        if not self.pieces:
            raise ValueError("a plant has one piece at least")
        # Between two of these instants total power is one straight line.
        self._at_s = sorted({at for p in self.pieces for at in (p.start_s, p.end_s)})
        self.start_s, self.end_s = self._at_s[0], self._at_s[-1]
        self._power_w, self._slope = self._lines()
        self._energy_j = [0.0, *accumulate(self._stretches())]
        self.peak_w = max(
            max(w, w + slope * (later - at))
            for w, slope, (at, later) in zip(
                self._power_w, self._slope, pairwise(self._at_s), strict=True
            )
        )

    def power_w(self, at_s: float) -> float:
        """Of all causes together, at one instant."""
        n = bisect_right(self._at_s, at_s) - 1
        if not 0 <= n < len(self._power_w):
            return 0.0
        # What falls to 0 may be a hair below it just before.
        return max(0.0, self._power_w[n] + self._slope[n] * (at_s - self._at_s[n]))

    def energy_j(self, at_s: float) -> float:
        """Of all causes together, from the beginning to `at_s`."""
        n = bisect_right(self._at_s, at_s) - 1
        if n < 0:
            return 0.0
        if n >= len(self._power_w):
            return self._energy_j[-1]
        passed_s = at_s - self._at_s[n]
        return self._energy_j[n] + passed_s * (self._power_w[n] + self._slope[n] * passed_s / 2)

    def steady_until(self, at_s: float) -> float:
        """Until when power stays exactly what it is at `at_s`; `at_s` itself if it does not."""
        n = bisect_right(self._at_s, at_s) - 1
        if n < 0:
            return self.start_s
        if n >= len(self._power_w):
            return math.inf
        return self._at_s[n + 1] if self._slope[n] == 0 else at_s

    def joules(self, start_s: float = -math.inf, end_s: float = math.inf) -> dict[Cause, float]:
        """What each cause has drawn between two instants: the truth."""
        found: dict[Cause, float] = defaultdict(float)
        for piece in self.pieces:
            if (joules := piece.joules(start_s, end_s)) > 0:
                found[piece.cause] += joules
        return dict(found)

    def _lines(self) -> tuple[list[float], list[float]]:
        """Power at the beginning of each stretch, and its slope."""
        begin: dict[float, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            begin[piece.start_s].append(piece)
        drawing: list[Piece] = []
        power_w, slopes = [], []
        for at_s in self._at_s[:-1]:
            drawing = [piece for piece in drawing if piece.end_s > at_s] + begin[at_s]
            power_w.append(
                math.fsum(each.power_w + each.slope * (at_s - each.start_s) for each in drawing)
            )
            slopes.append(math.fsum(each.slope for each in drawing))
        return power_w, slopes

    def _stretches(self) -> Iterator[float]:
        """Joules between each two instants."""
        lines = zip(self._power_w, self._slope, pairwise(self._at_s), strict=True)
        for power_w, slope, (at_s, later_s) in lines:
            yield (later_s - at_s) * (power_w + slope * (later_s - at_s) / 2)
