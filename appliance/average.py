"""A mean and a spread that follow what they are told, the latest counting most. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

P90 = 1.2816
"""Standard deviations above the mean below which nine tenths of a bell curve lie."""


@dataclass(slots=True)
class Average:
    """Of about the last `memory` values.

    variance  about `mean`; 0 until there are two
    """

    memory: int = 20
    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        weight = 1 / min(self.count, self.memory)
        away = value - self.mean
        self.mean += weight * away
        # West, "Updating mean and variance estimates", 1979, with a weight that stays.
        self.variance = (1 - weight) * (self.variance + weight * away * away)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.variance)

    @property
    def p90(self) -> float:
        """What nine of ten are below, as far as that can be told."""
        return self.mean + P90 * self.deviation
