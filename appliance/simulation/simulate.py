"""What each policy would have cost on a trace; docs/policies.md says what the figures mean.

The policies are the daemon's own. Beside them: what vLLM does as it ships, two habits, and
the best single idle timeout that hindsight can find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from statistics import median
from typing import Any, NamedTuple

from msgspec import Struct

from appliance.simulation.beside import beside
from appliance.simulation.ladder_file import PriceList
from policies.always_on import AlwaysOn
from policies.breakeven import Breakeven
from policies.course import floor_w
from policies.envelope import envelope
from policies.fixed import Fixed
from policies.ladder import Ladder, Policy
from policies.learned import MOST_MERIT, SLACK, Learned
from policies.priced import Priced, Prices, priced
from policies.replay import Trace, best_fixed, foreseen_j, quantile_s, replay

DAY_S = 86400.0

LONG = 5_000
"""Idle periods, from which on a second core is worth its start."""


class Terms(Struct, frozen=True, kw_only=True):
    """With what prices it is decided and counted; see `policies.priced`."""

    lambda_w: float = 100.0
    vram_w_per_gib: float = 0.0
    ram_w_per_gib: float = 0.0
    wake_cap_s: float | None = None

    @property
    def prices(self) -> Prices:
        """With which breakeven and learned decide."""
        return Prices(
            lambda_w=self.lambda_w,
            vram_w_per_gib=self.vram_w_per_gib,
            ram_w_per_gib=self.ram_w_per_gib,
            wake_cap_s=self.wake_cap_s,
        )


class Outcome(Struct, frozen=True, kw_only=True):
    """One policy on one trace. Energy is that of the idle periods, each wake included.

    energy_j        of the device or box that the price list is of
    of_always_on    as a share of what an engine takes that is always on, as vLLM ships it
    cost_j          above the least that can be drawn, and what waiting people are worth
    cost_ratio      that, as a multiple of the clairvoyant's, who has no cap; None: his is 0
    cold_share      of all requests, those of people who waited for the engine
    wait_p50_s      of all requests, half has waited no longer
    wait_p99_s      … 99 of 100
    wait_max_s      nobody has waited longer
    wakes_per_day
    """

    energy_j: float
    of_always_on: float
    cost_j: float
    cost_ratio: float | None
    cold_share: float
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    wakes_per_day: float

    def as_dict(self) -> dict[str, Any]:  # JSON
        """As `wattnap simulate --json` prints it."""
        return {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in {"wait_p50_s", "wait_max_s"}
        }


class Simulation(Struct, frozen=True):
    """All policies on one trace, by name, the baselines first."""

    trace: str
    rungs: str
    idle_periods: int
    span_s: float
    policies: dict[str, Outcome]

    def as_dict(self) -> dict[str, Any]:  # JSON
        return {
            "trace": self.trace,
            "rungs": self.rungs,
            "policies": {name: outcome.as_dict() for name, outcome in self.policies.items()},
        }


class _Run(NamedTuple):
    name: str
    policy: Policy
    ladder: Ladder


def simulate(trace: Trace, prices: PriceList, terms: Terms) -> Simulation:
    """Replay it for each policy; `learned`, which takes as long as all others, beside them."""
    learned = _priced(Learned(), prices.ladder, terms)
    replay_learned = partial(replay, learned.policy, learned.ladder, trace, terms.lambda_w)
    tally_learned = beside(replay_learned) if len(trace) >= LONG else replay_learned
    others = list(_others(trace, prices, terms))
    tallies = [replay(run.policy, run.ladder, trace, terms.lambda_w) for run in others]
    tallies.append(tally_learned())
    least_j = foreseen_j(prices.ladder, trace, terms.lambda_w)
    always_j: float | None = None
    outcomes = {}
    for (name, _, ladder), tally in zip([*others, learned], tallies, strict=True):
        energy_j = floor_w(ladder) * sum(trace.idle_s) + tally.excess_j
        always_j = energy_j if always_j is None else always_j
        outcomes[name] = Outcome(
            energy_j=round(energy_j, 1),
            of_always_on=round(energy_j / always_j, 6) if always_j else 1.0,
            cost_j=round(tally.cost_j, 1),
            cost_ratio=round(tally.cost_j / least_j, 6) if least_j else None,
            cold_share=round(tally.waits.total() / max(1, trace.requests), 6),
            wait_p50_s=quantile_s(tally, trace, 0.5),
            wait_p99_s=quantile_s(tally, trace, 0.99),
            wait_max_s=max(tally.waits, default=0.0),
            wakes_per_day=round(tally.wakes * DAY_S / trace.span_s, 4) if trace.span_s else 0.0,
        )
    return Simulation(trace.name, prices.name, len(trace), trace.span_s, outcomes)


def _others(trace: Trace, prices: PriceList, terms: Terms) -> Iterator[_Run]:
    """Always on as vLLM ships comes first: the others are measured by it."""
    ladder = prices.ladder
    shipped = ladder
    if prices.as_shipped_w is not None:
        shipped = (replace(ladder[0], power_w=prices.as_shipped_w), *ladder[1:])
    yield _Run("always_on", AlwaysOn(), shipped)
    if shipped != ladder:
        yield _Run("boost_off", AlwaysOn(), ladder)
    yield _Run("five_minutes", Fixed(idle_timeout_s=300.0), ladder)
    yield _Run("at_once", Fixed(idle_timeout_s=0.0), ladder)
    yield _Run("best_fixed", best_fixed(ladder, trace, terms.lambda_w), ladder)
    yield _priced(Breakeven(), ladder, terms)


def _priced(policy: Policy, ladder: Ladder, terms: Terms) -> _Run:
    return _Run(policy.name, Priced(policy, terms.prices), ladder)


def medians(simulations: Sequence[Simulation]) -> dict[str, Outcome]:
    """Of each figure, over the traces, by policy. A ratio that is not known does not count."""
    found = {}
    for name in simulations[0].policies:
        rows = [simulation.policies[name] for simulation in simulations]
        ratios = [row.cost_ratio for row in rows if row.cost_ratio is not None]
        middle = {
            field: median(getattr(row, field) for row in rows)
            for field in Outcome.__struct_fields__
            if field != "cost_ratio"
        }
        found[name] = Outcome(**middle, cost_ratio=median(ratios) if ratios else None)
    return found


def promises(prices: PriceList, terms: Terms) -> list[str]:
    """What holds for any trace, for people."""
    ladder = priced(prices.ladder, terms.prices, terms.wake_cap_s)
    bound = envelope(ladder, terms.lambda_w).bound
    capped = len(ladder) < len(prices.ladder)
    which = f"the rungs within {terms.wake_cap_s:g} s" if capped else "these rungs"
    most = f"at most {bound:.2f} × the clairvoyant's cost" if isfinite(bound) else "no bound"
    more = f"at most {SLACK:.1%} and {1 + MOST_MERIT:g} break-evens more than breakeven"
    return [
        f"breakeven: {most} on {which}",
        f"learned: on each rung, settling aside, {more}",
    ]
