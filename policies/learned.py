"""Rest when that is cheapest by what earlier idle periods looked like; never far from break-even.

It begins as `breakeven` and keeps an account, for each edge of the ladder, of what
it has paid and what `breakeven` would have. The forecast may choose another idle time only
while the account allows a loss, and the less it allows, the more a possible loss counts.
So for two rungs that settle at once, whatever happens,

    its cost <= (1 + SLACK) x breakeven's + 1.3 break-evens

and what it gains is the forecast's merit. The idea, a bound to one strategy that costs
next to nothing and a chance for another, is that of Sani, Neu, Lazaric: Exploiting easy
data in online optimization (2014).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import NamedTuple, Self

from policies.envelope import envelope
from policies.forecast import EDGES_S, MIDDLES_S, Forecast
from policies.ladder import Depth, Gap, Ladder, Now, Step, Timetable

FARTHEST = 2.0  # break-evens: no idle time beyond that is considered
# In break-evens of the edge, like all of an account. Tried on many kinds of traces, like
# those of the forecast (docs/measurements).
PATIENCE = 8.0  # what breakeven must have cost before anything else is tried
SLACK = 0.015  # of breakeven's cost: what may be lost for good
MERIT = 0.2  # of what the forecast alone would have saved …
MOST_MERIT = 0.3  # … but no more than that
CAUTION = 0.2  # over the credit: how often what a gap may be expected to lose is counted
MARGIN = 0.005  # over the credit's third power: what a gap has to be expected to save …
MOST_MARGIN = 0.1  # … but no more than that


class Account(NamedTuple):
    """What resting at one depth has cost so far, from the one above, in break-evens.

    own        as it was done
    breakeven  had `breakeven` done it
    forecast   had the forecast had its way
    """

    depth: Depth
    own: float = 0.0
    breakeven: float = 0.0
    forecast: float = 0.0

    @property
    def credit(self) -> float:
        """What may be lost. Without any, it does as `breakeven`."""
        if self.breakeven < PATIENCE:
            return 0.0
        merit = MERIT * (self.breakeven - self.forecast)
        return (1.0 + SLACK) * self.breakeven - self.own + min(MOST_MERIT, max(0.0, merit))


class Choice(NamedTuple):
    """own_s  idle time before it rests; forecast_s: if nothing but the forecast counted"""

    own_s: float
    forecast_s: float


# Not compared by value: it is the key under which its choices are remembered.
@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """`accounts`: of those edges that the ladder had when it was last asked."""

    forecast: Forecast = field(default_factory=Forecast)
    accounts: tuple[Account, ...] = ()
    name: str = "learned"

    def observe(self, gap: Gap) -> Self:
        accounts = self.accounts
        if gap.ladder:
            chosen = _choices(self, gap.ladder, gap.now)
            accounts = tuple(_booked(*edge, gap.idle_s) for edge in chosen)
        return type(self)(self.forecast.observe(gap.idle_s, gap.now), accounts, self.name)

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        steps, after_s = [Step(0.0, Depth.AWAKE)], 0.0
        for account, _, choice in _choices(self, ladder, now):
            after_s = max(after_s, choice.own_s)
            steps.append(Step(after_s, account.depth))
        return tuple(steps)


@lru_cache(maxsize=4)  # asked when it plans, and when the gap has ended
def _choices(policy: Learned, ladder: Ladder, now: Now) -> list[tuple[Account, float, Choice]]:
    """For each edge its account, its break-even time, and when to take it."""
    _, *edges = envelope(ladder, now.lambda_w).steps
    if not edges:
        return []
    ended = _Ended(policy.forecast.expect(now, FARTHEST * edges[-1].after_s))
    known = {account.depth: account for account in policy.accounts}
    found = []
    for depth, after_s in ((step.depth, step.after_s) for step in edges):
        account = known.get(depth, Account(depth))
        found.append((account, after_s, _choose(ended, after_s, account.credit)))
    return found


class _Ended:
    """Before each edge of a span: the share of all gaps that has ended, and their seconds."""

    def __init__(self, likely: Sequence[float]) -> None:
        self.shares = list(accumulate(likely, initial=0.0))
        self.seconds = list(accumulate(map(mul, likely, MIDDLES_S), initial=0.0))


def _choose(gaps: _Ended, break_even_s: float, credit: float) -> Choice:
    """When to take an edge, by how long idle periods are expected to be.

    At the break-even time, unless another is expected to save enough; and the smaller the
    credit, the more counts what it may lose against that.
    """
    if break_even_s <= 0.0:
        return Choice(0.0, 0.0)
    at = min(bisect_right(MIDDLES_S, break_even_s), len(gaps.shares) - 1)
    inside, inside_s = gaps.shares[at], gaps.seconds[at]
    fixed = inside_s + (1.0 - inside) * 2.0 * break_even_s
    free = credit > 0.0
    caution = CAUTION / credit if free else 0.0
    margin = min(MOST_MARGIN, MARGIN / credit**3) if free else MOST_MARGIN
    own_s, own = break_even_s, fixed - margin * break_even_s
    forecast_s, least = break_even_s, fixed
    farthest_s = FARTHEST * break_even_s
    for edge_s, ended, ended_s in zip(EDGES_S, gaps.shares, gaps.seconds, strict=False):
        if edge_s > farthest_s:
            break
        cost = ended_s + (1.0 - ended) * (edge_s + break_even_s)
        if cost < least:
            forecast_s, least = edge_s, cost
        if edge_s <= break_even_s:
            loss = (edge_s + break_even_s) * (inside - ended) - (inside_s - ended_s)
        else:
            loss = (edge_s - break_even_s) * (1.0 - ended)
        if loss > 0.0:
            cost += caution * loss
        if cost < own:
            own_s, own = edge_s, cost
    return Choice(own_s if free else break_even_s, forecast_s)


def _booked(account: Account, break_even_s: float, choice: Choice, idle_s: float) -> Account:
    if break_even_s <= 0.0:
        return account

    def paid(after_s: float) -> float:
        return idle_s / break_even_s if idle_s <= after_s else after_s / break_even_s + 1.0

    return Account(
        account.depth,
        account.own + paid(choice.own_s),
        account.breakeven + paid(break_even_s),
        account.forecast + paid(choice.forecast_s),
    )
