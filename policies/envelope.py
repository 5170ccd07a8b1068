"""The lower envelope: of all rungs, the one that would have been cheapest by now.

Each rung is a line over idle time: what it costs to go there at once, stay, and wake
for the arrival. Whoever is always on the lowest line pays at most twice what the
clairvoyant pays, where `enter_s` is 0. Elsewhere an arrival may meet an engine that
still settles; then the worst case is computed, and rungs are left out until it is one
that can be lived with.

Irani, Shukla, Gupta: Online strategies for dynamic power management (2003);
Augustine, Irani, Swamy: Optimal power-down strategies (2004).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import sqrt

from policies.course import clairvoyant_j, course, floor_w, straights
from policies.ladder import Depth, Ladder, Step, Timetable

FINE = 3.0 + 2.0 * sqrt(2.0)
"""What Augustine, Irani and Swamy have shown for edges of any price that take no time."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """steps  each at the idle time that would have paid for it, from the rung before
    bound  they never cost more than this many times what the clairvoyant pays
    """

    steps: Timetable
    bound: float


@lru_cache(maxsize=256)
def envelope(ladder: Ladder, lambda_w: float) -> Envelope:
    """Of all rungs if its bound is FINE; else of the most for which it is, or is least."""
    best = Envelope((), float("inf"))
    for kept in _choices(ladder):
        steps = tuple(_steps(ladder, kept, lambda_w))
        found = Envelope(steps, bound(ladder, steps, lambda_w))
        if not best.steps or found.bound < best.bound:
            best = found
        if best.bound <= FINE:
            break
    return best


def _choices(ladder: Ladder) -> Iterator[frozenset[Depth]]:
    """Which rungs to rest on: all, then all but one, at last none."""
    rests = [rung.depth for rung in ladder[1:]]
    for count in range(len(rests), -1, -1):
        yield from map(frozenset, combinations(rests, count))


def _steps(ladder: Ladder, kept: frozenset[Depth], lambda_w: float) -> Iterator[Step]:
    # The way down is paid for, so a line begins where it would have been without it.
    lines = [
        (line.power_w, line.price_j - line.power_w * line.settled_s, rung.depth)
        for rung, line in zip(ladder, straights(ladder, lambda_w), strict=True)
        if rung.depth in kept
    ]
    here_w, here_j = ladder[0].power_w - floor_w(ladder), 0.0
    yield Step(0.0, Depth.AWAKE)
    while below := [
        # Of lines that are crossed at once, the one that draws least.
        (max(0.0, (price_j - here_j) / (here_w - power_w)), power_w, depth, price_j)
        for power_w, price_j, depth in lines
        if power_w < here_w
    ]:
        after_s, here_w, depth, here_j = min(below)
        yield Step(after_s, depth)


def bound(ladder: Ladder, steps: Timetable, lambda_w: float) -> float:
    """The worst idle period's cost, as a multiple of the clairvoyant's. May be infinite.

    Both are straight between the instants at which either changes its mind, so their
    ratio is greatest at one of those, or just after it, or far away.
    """
    followed = course(ladder, steps)
    at_s = sorted({0.0, *followed.begins_s, *_turns(ladder, lambda_w)})
    worst = 1.0
    for instant_s in at_s:
        spent, soon = followed.spent(instant_s), followed.just_after(instant_s)
        least_j = clairvoyant_j(ladder, instant_s, lambda_w)
        for paid_j in (
            spent.excess_j + lambda_w * spent.wait_s,
            soon.excess_j + lambda_w * soon.wait_s,
        ):
            if paid_j > 0.0:
                worst = max(worst, paid_j / least_j if least_j > 0.0 else float("inf"))
    # Far away, where the clairvoyant draws nothing more.
    return worst if followed.pieces[-1].power_w == 0.0 else float("inf")


def _turns(ladder: Ladder, lambda_w: float) -> Iterator[float]:
    """Where the clairvoyant may turn from one choice to another; and instants besides."""
    pieces = []
    for line in straights(ladder, lambda_w):
        yield line.open_s
        yield line.settled_s
        pieces.append((line.price_j - line.power_w * line.settled_s, line.power_w))
        if line.settled_s:
            pieces.append((line.price_j + lambda_w * line.settled_s, -lambda_w))
    for (one_j, one_w), (other_j, other_w) in combinations(pieces, 2):
        if one_w != other_w and (crossing_s := (other_j - one_j) / (one_w - other_w)) > 0.0:
            yield crossing_s
