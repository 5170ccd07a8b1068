"""From the watts of short stretches: what is drawn at rest, and since when. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

COUNT = 12
"""Stretches that together are believed."""
LEAST_W, LEAST_SHARE, SIGMAS = 1.0, 0.02, 2.0
PATIENCE = 3 * COUNT
"""After so many it is believed, settled or not: then its spread says so."""


class Stretch(NamedTuple):
    seconds: float
    power_w: float


class Resting(NamedTuple):
    """spread_w  standard deviation of the stretches' means
    settle_s  what was drawn before on top of that had gone after so long
    """

    power_w: float
    spread_w: float
    settle_s: float


def find_resting(stretches: Sequence[Stretch]) -> Resting | None:
    """None: it is not over yet, or it is too early to say."""
    last = stretches[-COUNT:]
    if len(last) < COUNT or not (_is_level(last) or len(stretches) >= PATIENCE):
        return None
    power_w = _mean_w(last)
    spread_w = statistics.stdev(stretch.power_w for stretch in last)
    above_w = power_w + same_w(power_w, spread_w)
    tail = [n for n, stretch in enumerate(stretches, 1) if stretch.power_w > above_w]
    settled = max((n for n in tail if n <= len(stretches) - COUNT), default=0)
    settle_s = math.fsum(stretch.seconds for stretch in stretches[:settled])
    return Resting(power_w, spread_w, settle_s)


def _is_level(last: Sequence[Stretch]) -> bool:
    """Wherever it is cut in two, one part is as high as the other."""
    # From one stretch to the next, so that what falls slowly is not taken for noise
    # (von Neumann, "Distribution of the ratio of the mean square successive difference", 1941).
    steps_w = [after.power_w - before.power_w for before, after in pairwise(last)]
    noise_w = math.sqrt(statistics.mean(step * step for step in steps_w) / 2)
    for cut in range(1, len(last)):
        first, rest = last[:cut], last[cut:]
        of_means_w = noise_w * math.sqrt(1 / len(first) + 1 / len(rest))
        if abs(_mean_w(first) - _mean_w(rest)) > same_w(_mean_w(last), of_means_w):
            return False
    return True


def same_w(power_w: float, spread_w: float) -> float:
    """What differs by less is the same, as far as anybody can tell."""
    return max(LEAST_W, LEAST_SHARE * power_w, SIGMAS * spread_w)


def _mean_w(stretches: Sequence[Stretch]) -> float:
    joules = math.fsum(stretch.seconds * stretch.power_w for stretch in stretches)
    return joules / math.fsum(stretch.seconds for stretch in stretches)
