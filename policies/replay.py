"""A trace of idle periods, spent by a policy as the daemon would have spent it.

Each idle period is as long as it was, whatever the policy does: that somebody waited
does not make him come later the next time. Whoever ends one waits; who comes while that
one is waited for or served finds an engine that is up, or about to be.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain, groupby
from math import inf
from operator import mul
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
    """0, or as long as one of the idle periods, exactly; infinite: never resting is best."""
    bottom = deepest(ladder)
    down = course(ladder, (Step(0.0, Depth.AWAKE), Step(0.0, bottom.depth)))
    awake_w = ladder[0].power_w - floor_w(ladder)
    sums = _Sums(trace)
    every = sums.upto(inf)
    best_s, best_j = inf, awake_w * every.idle_s
    if bottom.depth is Depth.AWAKE:
        return best_s
    ends_s = (*down.begins_s[2:], inf)
    for after_s in sums.timeouts_s():
        past = sums.upto(after_s)
        cost_j = awake_w * (past.idle_s + after_s * (every.many - past.many))
        # On each piece of the way down, cost is a straight line over idle time.
        for piece, end_s in zip(down.pieces[1:], ends_s, strict=True):
            before, past = past, sums.upto(after_s + end_s)
            if past.many == before.many:
                continue
            many, idle_s, people, people_s = (b - a for a, b in zip(before, past, strict=True))
            cost_j += many * (piece.spent_j + piece.wake_j)
            cost_j += piece.power_w * (idle_s - many * (after_s + piece.begin_s))
            cost_j += lambda_w * people * piece.wake_s
            if piece.here_s > piece.begin_s:
                cost_j += lambda_w * (people * (after_s + piece.here_s) - people_s)
        if cost_j < best_j:
            best_s, best_j = after_s, cost_j
    return best_s


class _Sum(NamedTuple):
    """Of some idle periods; people: of those that a person ended."""

    many: int
    idle_s: float
    people: int
    people_s: float


class _Sums:
    """Of all idle periods that are no longer than something. Packed, as a `Trace` is."""

    def __init__(self, trace: Trace) -> None:
        order = sorted(range(len(trace)), key=trace.idle_s.__getitem__)
        self._lengths_s = array("d", (trace.idle_s[i] for i in order))
        people = array("b", (trace.people[i] for i in order))
        self._idle_s = array("d", accumulate(self._lengths_s, initial=0.0))
        self._people = array("l", accumulate(people, initial=0))
        person_s = map(mul, self._lengths_s, people)
        self._people_s = array("d", accumulate(person_s, initial=0.0))

    def upto(self, idle_s: float) -> _Sum:
        many = bisect_right(self._lengths_s, idle_s)
        return _Sum(many, self._idle_s[many], self._people[many], self._people_s[many])

    def timeouts_s(self) -> Iterator[float]:
        """0, and each length once."""
        yield from (length_s for length_s, _ in groupby(chain([0.0], self._lengths_s)))
