"""A trace of idle periods, spent by a policy as the daemon would have spent it.

Each idle period is as long as it was, whatever the policy does: that somebody waited
does not make him come later the next time. Whoever ends one waits; who comes while that
one is waited for or served finds an engine that is up, or about to be.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import NamedTuple

from policies.always_on import AlwaysOn
from policies.course import Course, clairvoyant_j, course, floor_w
from policies.fixed import Fixed
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Step, Timetable, deepest


class Visit(NamedTuple):
    """The end of an idle period.

    minute_of_week  local, as it began
    busy_s          served without a break before it
    person          somebody waits; else it is batch work
    """

    idle_s: float
    minute_of_week: int
    busy_s: float
    person: bool


@dataclass(slots=True)
class Trace:
    """Idle periods in order, packed. `requests` and `span_s` count all that came."""

    name: str
    requests: int = 0
    span_s: float = 0.0
    idle_s: array[float] = field(default_factory=lambda: array("d"))
    _minutes: array[int] = field(default_factory=lambda: array("h"))
    _busy_s: array[float] = field(default_factory=lambda: array("d"))
    people: bytearray = field(default_factory=bytearray)

    def add(self, visit: Visit) -> None:
        self.idle_s.append(visit.idle_s)
        self._minutes.append(visit.minute_of_week)
        self._busy_s.append(visit.busy_s)
        self.people.append(visit.person)

    def __len__(self) -> int:
        return len(self.idle_s)

    def __iter__(self) -> Iterator[Visit]:
        columns = zip(self.idle_s, self._minutes, self._busy_s, self.people, strict=True)
        for idle_s, minute, busy_s, person in columns:
            yield Visit(idle_s, minute, busy_s, bool(person))


@dataclass(slots=True)
class Tally:
    """excess_j  above the deepest rung's power, without what waiting is worth
    cost_j    with it
    waits     of people who waited: seconds, to the millisecond -> how many
    wakes     for anybody
    """

    excess_j: float = 0.0
    cost_j: float = 0.0
    waits: Counter[float] = field(default_factory=Counter)
    wakes: int = 0


def replay(
    policy: Policy,
    ladder: Ladder,
    trace: Trace,
    lambda_w: float,
    wake_cap_s: float | None = None,
) -> Tally:
    """What it would have cost. `lambda_w`: of people; batch work may wait for nothing."""
    tally = Tally()
    courses: dict[Timetable, Course] = {}
    for idle_s, minute, busy_s, person in trace:
        now = Now(minute_of_week=minute, lambda_w=lambda_w, busy_s=busy_s, wake_cap_s=wake_cap_s)
        steps = policy.plan(ladder, now)
        if (followed := courses.get(steps)) is None:
            followed = courses[steps] = course(ladder, steps)
        excess_j, wait_s, depth, wakes = followed.spent(idle_s)
        tally.excess_j += excess_j
        tally.wakes += wakes
        if person and wait_s:
            tally.cost_j += lambda_w * wait_s
            tally.waits[round(wait_s, 3)] += 1
        policy = policy.observe(Gap(idle_s, depth, ladder, now))
    tally.cost_j += tally.excess_j
    return tally


def foreseen_j(ladder: Ladder, trace: Trace, lambda_w: float) -> float:
    """What the clairvoyant would have paid."""
    return sum(
        clairvoyant_j(ladder, idle_s, lambda_w if person else 0.0)
        for idle_s, person in zip(trace.idle_s, trace.people, strict=True)
    )


def quantile_s(tally: Tally, trace: Trace, share: float) -> float:
    """Of all requests, this share has waited no longer. Most do not wait at all."""
    left = trace.requests * (1.0 - share)
    for wait_s, count in sorted(tally.waits.items(), reverse=True):
        if count > left:
            return wait_s
        left -= count
    return 0.0


def best_fixed(ladder: Ladder, trace: Trace, lambda_w: float) -> Policy:
    """The idle timeout that would have cost the least, straight to the deepest rung."""
    after_s = best_timeout_s(ladder, trace, lambda_w)
    name = "best_fixed"
    return AlwaysOn(name) if after_s == inf else Fixed(idle_timeout_s=after_s, name=name)


def best_timeout_s(ladder: Ladder, trace: Trace, lambda_w: float) -> float:
    """0, or as long as one of the idle periods, exactly; infinite: never resting is best.

    Where the descent takes no time, one pass over the sorted idle periods tells. Else that
    is a lower limit, and the candidates are computed in its order until it says enough.
    """
    bottom = deepest(ladder)
    straight = course(ladder, (Step(0.0, Depth.AWAKE), Step(0.0, bottom.depth)))
    least_w = floor_w(ladder)
    awake_w, rest_w = ladder[0].power_w - least_w, bottom.power_w - least_w
    settled_s = straight.begins_s[-1]
    down_j = straight.pieces[-1].spent_j + bottom.wake_j
    gaps = sorted(zip(trace.idle_s, trace.people, strict=True))
    lengths_s = [idle_s for idle_s, _ in gaps]
    sums_s = list(accumulate(lengths_s, initial=0.0))
    people = list(accumulate((person for _, person in gaps), initial=0))
    every = len(gaps)

    def least_j(after_s: float) -> float:
        """Without those who come while it settles: they cost no less than staying up."""
        up, down = bisect_right(lengths_s, after_s), bisect_left(lengths_s, after_s + settled_s)
        down = max(up, down)
        rests = every - down
        return (
            awake_w * (sums_s[up] + after_s * (every - up))
            + rests * down_j
            + rest_w * (sums_s[-1] - sums_s[down] - rests * (after_s + settled_s))
            + lambda_w * bottom.wake_s * (people[-1] - people[down])
        )

    def whole_j(after_s: float) -> float:
        if not settled_s:
            return least_j(after_s)
        up, down = bisect_right(lengths_s, after_s), bisect_left(lengths_s, after_s + settled_s)
        followed = course(ladder, (Step(0.0, Depth.AWAKE), Step(after_s, bottom.depth)))
        met_j = 0.0
        for idle_s, person in gaps[up : max(up, down)]:
            spent = followed.spent(idle_s)
            met_j += spent.excess_j + lambda_w * spent.wait_s * person - awake_w * after_s
        return least_j(after_s) + met_j

    best_s, best_j = inf, awake_w * sums_s[-1]
    for limit_j, after_s in sorted((least_j(at_s), at_s) for at_s in {0.0, *lengths_s}):
        if limit_j >= best_j:
            break
        if (found_j := whole_j(after_s)) < best_j:
            best_s, best_j = after_s, found_j
    return best_s
