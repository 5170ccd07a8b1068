"""What an idle period costs: under a timetable, and for the clairvoyant.

Costs are those of docs/policies.md: joules above the deepest rung's power, for
the time at rest and for each edge and wake, and `lambda_w` for each second that
the arrival waits. A descent passes each offered rung on its way; what has begun
to settle is waited for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from policies.ladder import Depth, Ladder, Timetable


class Spent(NamedTuple):
    """One idle period, its end included.

    excess_j  above the deepest rung's power, the wake included
    wait_s    of whoever ended it
    depth     where the arrival found it
    wakes     how often it has woken, for the arrival and before
    """

    excess_j: float
    wait_s: float
    depth: Depth
    wakes: int


class Piece(NamedTuple):
    """From `begin_s` on. It has cost `spent_j` by then and draws `power_w` more.

    here_s  when it has arrived where it is going
    wakes   before it
    """

    begin_s: float
    spent_j: float
    power_w: float
    here_s: float
    wake_s: float
    wake_j: float
    depth: Depth
    wakes: int


@dataclass(frozen=True, slots=True)
class Course:
    """A timetable on a ladder, ready to be asked what any idle period costs."""

    begins_s: tuple[float, ...]
    pieces: tuple[Piece, ...]

    def spent(self, idle_s: float) -> Spent:
        """An arrival on the stroke of a step comes before it."""
        return self._ended(max(0, bisect_left(self.begins_s, idle_s) - 1), idle_s)

    def just_after(self, idle_s: float) -> Spent:
        """The limit for an arrival that comes an instant later."""
        return self._ended(bisect_right(self.begins_s, idle_s) - 1, idle_s)

    def _ended(self, at: int, idle_s: float) -> Spent:
        begin_s, spent_j, power_w, here_s, wake_s, wake_j, depth, wakes = self.pieces[at]
        wait_s = wake_s if idle_s >= here_s else here_s - idle_s + wake_s
        excess_j = spent_j + power_w * (idle_s - begin_s) + wake_j
        return Spent(excess_j, wait_s, depth, wakes + (depth is not Depth.AWAKE))


def floor_w(ladder: Ladder) -> float:
    """What it draws at the least: the deepest rung's power, if prices are as they should be."""
    return min(rung.power_w for rung in ladder)


@lru_cache(maxsize=4096)
def course(ladder: Ladder, steps: Timetable) -> Course:
    """Lay `steps` out in time. A step to where it is already, or halfway up, is none."""
    least_w = floor_w(ladder)
    here = ladder[0]
    at_s, spent_j, power_w, wakes = 0.0, 0.0, here.power_w - least_w, 0
    pieces = [Piece(0.0, 0.0, power_w, 0.0, 0.0, 0.0, here.depth, 0)]
    for step in steps:
        begin_s = max(at_s, step.after_s)
        if step.depth > here.depth:
            below = [rung for rung in ladder if here.depth < rung.depth <= step.depth]
        elif step.depth is Depth.AWAKE and here.depth is not Depth.AWAKE:
            spent_j += power_w * (begin_s - at_s) + here.wake_j
            at_s, wakes, below = begin_s + here.wake_s, wakes + 1, []
            here, power_w = ladder[0], ladder[0].power_w - least_w
            pieces += [
                Piece(begin_s, spent_j, 0.0, at_s, 0.0, 0.0, Depth.AWAKE, wakes),
                Piece(at_s, spent_j, power_w, at_s, 0.0, 0.0, Depth.AWAKE, wakes),
            ]
        else:
            continue
        for rung in below:
            begin_s = max(at_s, step.after_s)
            spent_j += power_w * (begin_s - at_s) + rung.enter_j
            at_s, here, power_w = begin_s + rung.enter_s, rung, rung.power_w - least_w
            costs = rung.wake_s, rung.wake_j, rung.depth, wakes
            if rung.enter_s:
                pieces.append(Piece(begin_s, spent_j, 0.0, at_s, *costs))
            pieces.append(Piece(at_s, spent_j, power_w, at_s, *costs))
    return Course(tuple(piece.begin_s for piece in pieces), tuple(pieces))


class Straight(NamedTuple):
    """Going to one rung at once, and staying there until the arrival.

    open_s     an arrival before that is noticed above it
    settled_s  when it is there
    price_j    of the way down and up, and of the wait for the way up
    power_w    above the deepest rung's, once there
    """

    open_s: float
    settled_s: float
    price_j: float
    power_w: float


@lru_cache(maxsize=256)
def straights(ladder: Ladder, lambda_w: float) -> tuple[Straight, ...]:
    """What the clairvoyant chooses from; the first is to stay awake."""
    least_w = floor_w(ladder)
    enters_j = accumulate(rung.enter_j for rung in ladder[1:])
    enters_s = list(accumulate((rung.enter_s for rung in ladder[1:]), initial=0.0))
    rests = [
        Straight(
            open_s=enters_s[i],
            settled_s=enters_s[i + 1],
            price_j=enter_j + rung.wake_j + lambda_w * rung.wake_s,
            power_w=rung.power_w - least_w,
        )
        for i, (rung, enter_j) in enumerate(zip(ladder[1:], enters_j, strict=True))
    ]
    return (Straight(0.0, 0.0, 0.0, ladder[0].power_w - least_w), *rests)


def clairvoyant_j(ladder: Ladder, idle_s: float, lambda_w: float) -> float:
    """The least that this idle period could have cost, had its end been known.

    It may go straight to any rung or stay, and may not wake before the arrival.
    """
    awake, *rests = straights(ladder, lambda_w)
    least = awake.power_w * idle_s
    for open_s, settled_s, price_j, power_w in rests:
        if idle_s >= settled_s:
            cost = price_j + power_w * (idle_s - settled_s)
        elif idle_s > open_s:
            cost = price_j + lambda_w * (settled_s - idle_s)
        else:
            break
        least = min(least, cost)
    return least
