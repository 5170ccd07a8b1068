"""Arrivals of many kinds, made up.

`KINDS` with other seeds were among those on which the constants of `learned` were chosen;
`HELD_OUT` was written afterwards, and what it showed has changed nothing.

Each kind is a way in which people, sensors, timers or adversaries might come; a seed and a
number of arrivals make one trace of it. The adversaries aim at break-even times of 180 s
and at those that a waiting person makes of it (`AIMS_S`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from appliance.power.visits import Arrival, trace
from policies.replay import Trace

DAY_S = 86400.0
WORK_S = 5.0
AIMS_S = (180.0, 205.0, 430.0)

Kind = Callable[[random.Random], Iterator[float]]


def made(name: str, seed: int, count: int) -> Trace:
    """So many arrivals, each with a few seconds of work; the first week begins on a Monday."""
    dice = random.Random(f"{name} {seed} {count}")
    at_s = list(islice((KINDS | HELD_OUT)[name](dice), count))
    arrivals = [Arrival(at, dice.uniform(0.5, 1.5) * WORK_S, person=True) for at in sorted(at_s)]
    return trace(f"{name}-{count}-{seed}", arrivals, at_s[0] / 60)


def spaced(gaps_s: Iterator[float]) -> Iterator[float]:
    """Arrivals with idle periods of about these lengths between them."""
    at_s = 9 * 3600.0
    for idle_s in gaps_s:
        yield at_s
        at_s += WORK_S + idle_s


def drawn(draw: Callable[[random.Random], float]) -> Kind:
    """Each idle period for itself."""

    def kind(dice: random.Random) -> Iterator[float]:
        return spaced(iter(lambda: draw(dice), None))

    return kind


def poisson(mean_s: float) -> Kind:
    return drawn(lambda dice: dice.expovariate(1 / mean_s))


def weibull(scale_s: float, shape: float) -> Kind:
    return drawn(lambda dice: dice.weibullvariate(scale_s, shape))


def pareto(least_s: float, power: float) -> Kind:
    """A tail so heavy that its mean may not exist; no idle period is longer than a month."""
    return drawn(lambda dice: min(30 * DAY_S, least_s * dice.paretovariate(power)))


def gamma(shape: float, mean_s: float) -> Kind:
    return drawn(lambda dice: dice.gammavariate(shape, mean_s / shape))


def hyper(short_s: float, long_s: float, share: float) -> Kind:
    """Short ones and long ones, the next whichever it will."""
    return drawn(lambda dice: dice.expovariate(1 / (short_s if dice.random() < share else long_s)))


def sessions(think_s: float, spread: float, many: float, apart_s: float) -> Kind:
    """Somebody who asks, thinks, asks again, and goes away."""

    def gaps(dice: random.Random) -> Iterator[float]:
        while True:
            for _ in range(int(dice.expovariate(1 / many))):
                yield dice.gammavariate(1 / spread**2, think_s * spread**2)
            yield dice.weibullvariate(apart_s, 0.7)

    return lambda dice: spaced(gaps(dice))


def two_states(fast_s: float, slow_s: float, stays: float) -> Kind:
    """Fast arrivals for a while, then slow ones for a while."""

    def gaps(dice: random.Random) -> Iterator[float]:
        fast = True
        while True:
            if dice.random() < 1 / stays:
                fast = not fast
            yield dice.expovariate(1 / (fast_s if fast else slow_s))

    return lambda dice: spaced(gaps(dice))


def drifting(first_s: float, factor: float, spread: float) -> Kind:
    """Ever slower or ever faster; and back again, beyond a factor of 300."""

    def gaps(dice: random.Random) -> Iterator[float]:
        mean_s, change = first_s, factor
        while True:
            yield mean_s * math.exp(dice.gauss(0.0, spread))
            mean_s *= change
            if not 1 / 300 < mean_s / first_s < 300:
                change = 1 / change

    return lambda dice: spaced(gaps(dice))


def by_the_clock(hours: tuple[tuple[float, float, float], ...], weekend: float) -> Kind:
    """Each stretch of hours has so many arrivals an hour; on Saturday and Sunday that share."""

    def arrivals(dice: random.Random) -> Iterator[float]:
        for day in range(10_000):
            share = weekend if day % 7 >= 5 else 1.0
            today = []
            for first, end, an_hour in hours:
                hour = first
                while an_hour * share > 0:
                    hour += dice.expovariate(an_hour * share)
                    if hour >= end:
                        break
                    today.append(day * DAY_S + 3600 * hour)
            yield from sorted(today)

    return arrivals


def conversations(
    a_day: float, think_s: float, many: float, hours: tuple[float, ...], weekend: float
) -> Kind:
    """People who talk at about these hours, each for a while; several may at once."""

    def arrivals(dice: random.Random) -> Iterator[float]:
        for day in range(10_000):
            today = []
            share = weekend if day % 7 >= 5 else 1.0
            for _ in range(round(dice.gammavariate(2.0, a_day * share / 2))):
                at_s = day * DAY_S + 3600 * (dice.choice(hours) + dice.gauss(0.0, 1.2)) % DAY_S
                for _ in range(1 + int(dice.expovariate(1 / many))):
                    today.append(at_s)
                    at_s += WORK_S + think_s * math.exp(dice.gauss(0.0, 1.0))
            yield from sorted(today)

    return arrivals


def timer(period_s: float, jitter_s: float, besides_s: float = math.inf) -> Kind:
    """A timer; and others besides it, on the average that far apart."""

    def arrivals(dice: random.Random) -> Iterator[float]:
        at_s = other_s = dice.uniform(0.0, period_s)
        while True:
            yield at_s + dice.uniform(0.0, jitter_s)
            at_s += period_s
            while other_s < at_s and besides_s < math.inf:
                yield other_s
                other_s += dice.expovariate(1 / besides_s)
            other_s = max(other_s, at_s)

    return arrivals


def just_past(share: float, past: float) -> Kind:
    """As soon as it has gone to rest; between these, others that are short."""

    def gaps(dice: random.Random) -> Iterator[float]:
        aim_s = dice.choice(AIMS_S)
        while True:
            yield aim_s * past if dice.random() < share else dice.uniform(1.0, aim_s / 2)

    return lambda dice: spaced(gaps(dice))


def turning(stays: int, low: float, high: float) -> Kind:
    """Who has just been learned turns into somebody else."""

    def gaps(dice: random.Random) -> Iterator[float]:
        aim_s = dice.choice(AIMS_S)
        while True:
            for part in (low, high):
                for _ in range(dice.randint(stays // 2, stays * 3 // 2)):
                    yield aim_s * part * dice.uniform(0.97, 1.03)

    return lambda dice: spaced(gaps(dice))


def excited(a_day: float, offspring: float, within_s: float) -> Kind:
    """Each arrival brings others soon after it, these yet others."""

    def arrivals(dice: random.Random) -> Iterator[float]:
        at_s = 0.0
        while True:
            at_s += dice.expovariate(a_day / DAY_S)
            found, fresh = [], [at_s]
            while fresh and len(found) < 200:
                parent_s = fresh.pop()
                found.append(parent_s)
                while dice.random() < offspring / (1 + offspring):
                    fresh.append(parent_s + dice.expovariate(1 / within_s))
            yield from sorted(found)

    return arrivals


OFFICE = ((8.0, 12.0, 20.0), (12.0, 13.0, 4.0), (13.0, 18.0, 16.0), (18.0, 23.0, 1.0))
HOME = ((6.5, 8.5, 6.0), (8.5, 16.0, 0.7), (16.0, 22.5, 5.0), (22.5, 24.0, 1.0))
SENSORS = ((6.0, 9.0, 14.0), (9.0, 17.0, 3.0), (17.0, 24.0, 10.0), (0.0, 6.0, 0.5))

KINDS: dict[str, Kind] = {
    **{f"poisson_{mean}": poisson(mean) for mean in (20, 60, 120, 180, 300, 900, 6000)},
    "weibull_0.4": weibull(150, 0.4),
    "weibull_0.6": weibull(60, 0.6),
    "weibull_1.5": weibull(250, 1.5),
    "weibull_3": weibull(160, 3.0),
    "pareto_0.6": pareto(6, 0.6),
    "pareto_1": pareto(15, 1.0),
    "pareto_1.5": pareto(40, 1.5),
    "gamma_0.2": gamma(0.2, 400),
    "gamma_0.5": gamma(0.5, 150),
    "hyper_fast": hyper(8, 900, 0.85),
    "hyper_even": hyper(40, 1500, 0.5),
    "hyper_agent": hyper(12, 250, 0.9),
    "sessions_chat": sessions(70, 0.9, 6, 9000),
    "sessions_slow": sessions(150, 0.7, 3, 30_000),
    "sessions_agent": sessions(10, 1.1, 14, 500),
    "sessions_quick": sessions(25, 0.8, 10, 2500),
    "two_states": two_states(15, 700, 12),
    "two_states_long": two_states(60, 400, 60),
    "slower": drifting(15, 1.02, 0.7),
    "faster": drifting(2000, 1 / 1.015, 1.0),
    "wandering": drifting(150, 1.05, 0.4),
    "office": by_the_clock(OFFICE, 0.05),
    "home": by_the_clock(HOME, 1.8),
    "sensors": by_the_clock(SENSORS, 1.2),
    "chats": conversations(3, 60, 5, (9.5, 13.0, 20.5), 0.8),
    "household": conversations(10, 90, 4, (8.0, 17.5, 19.0, 21.0), 1.4),
    "team": conversations(25, 120, 7, (9.5, 11.0, 14.5, 16.0), 0.02),
    "timer_60": timer(60, 4),
    "timer_200": timer(200, 6),
    "timer_300": timer(300, 20),
    "timer_hour": timer(3600, 30),
    "timer_and_people": timer(600, 10, 400),
    "timer_and_few": timer(900, 10, 3000),
    "just_past": just_past(1.0, 1.02),
    "half_just_past": just_past(0.5, 1.05),
    "few_just_past": just_past(0.2, 1.02),
    "just_before": just_past(1.0, 0.98),
    "turning_30": turning(30, 0.5, 1.05),
    "turning_100": turning(100, 0.6, 4.0),
    "turning_10": turning(10, 0.3, 1.5),
    "excited": excited(12, 0.8, 40),
    "excited_long": excited(5, 0.9, 200),
}


def modes(*of: tuple[float, float, float]) -> Kind:
    """Each idle period from one of several lognormals: share, median seconds, spread."""

    def draw(dice: random.Random) -> float:
        _, middle_s, spread = dice.choices(of, [share for share, _, _ in of])[0]
        return middle_s * math.exp(dice.gauss(0.0, spread))

    return drawn(draw)


def remembering(back: float, spread: float, middle_s: float) -> Kind:
    """The logarithm of an idle period is close to that of the one before."""

    def gaps(dice: random.Random) -> Iterator[float]:
        at = 0.0
        while True:
            at = back * at + dice.gauss(0.0, spread)
            yield middle_s * math.exp(at)

    return lambda dice: spaced(gaps(dice))


def aftershocks(apart_s: float, first_s: float, factor: float) -> Kind:
    """Something happens; then ever longer idle periods, until something happens again."""

    def gaps(dice: random.Random) -> Iterator[float]:
        while True:
            idle_s, left_s = first_s, dice.expovariate(1 / apart_s)
            while left_s > 0.0:
                found_s = min(left_s + 1.0, idle_s * dice.uniform(0.6, 1.4))
                yield found_s
                left_s -= found_s
                idle_s *= factor

    return lambda dice: spaced(gaps(dice))


def together(*kinds: Kind) -> Kind:
    """Several that know nothing of each other."""
    return lambda dice: merge(*(kind(dice) for kind in kinds))


def shifts(first: Kind, second: Kind, days: float) -> Kind:
    """Another half of the household is at home: so many days of one, so many of the other."""

    def arrivals(dice: random.Random) -> Iterator[float]:
        sources = [first(dice), second(dice)]
        at_s = [next(source) for source in sources]
        begun_s = 0.0
        while True:
            for i, source in enumerate(sources):
                while at_s[i] < begun_s:
                    at_s[i] = next(source)
                while at_s[i] < begun_s + days * DAY_S:
                    yield at_s[i]
                    at_s[i] = next(source)
                begun_s += days * DAY_S

    return arrivals


def counting(least_s: float, most_s: float, steps: int) -> Kind:
    """Up a stair of idle periods and down again: the last one tells the next."""

    def gaps(dice: random.Random) -> Iterator[float]:
        while True:
            for step in (*range(steps), *range(steps, 0, -1)):
                exact_s = least_s * (most_s / least_s) ** (step / steps)
                yield exact_s * dice.uniform(0.9, 1.1)

    return lambda dice: spaced(gaps(dice))


HELD_OUT: dict[str, Kind] = {
    "three_modes": modes((0.6, 12, 0.6), (0.3, 150, 0.4), (0.1, 7000, 1.0)),
    "middle_mode": modes((0.5, 6, 0.5), (0.5, 210, 0.15)),
    "long_tail": modes((0.7, 40, 1.0), (0.3, 1500, 2.0)),
    "remembering": remembering(0.9, 0.6, 90),
    "remembering_long": remembering(0.97, 0.4, 300),
    "aftershocks": aftershocks(20_000, 10, 1.5),
    "aftershocks_close": aftershocks(3000, 4, 1.3),
    "two_timers": together(timer(600, 5), timer(840, 5)),
    "timers_and_chats": together(timer(1800, 20), conversations(4, 45, 6, (8.0, 12.5, 21.0), 1.0)),
    "shifts": shifts(
        by_the_clock(OFFICE, 0.1), conversations(6, 70, 5, (22.0, 1.0, 3.0), 1.0), 7.0
    ),
    "school": by_the_clock(((7.8, 8.0, 60.0), (9.6, 9.9, 80.0), (13.0, 13.3, 60.0)), 0.0),
    "counting": counting(20, 900, 8),
    "weekends_only": by_the_clock(((10.0, 23.0, 0.05),), 200.0),
}
