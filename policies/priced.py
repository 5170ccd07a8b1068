"""What a rung counts for in a decision: its power, and what it holds that others could use.

Holding memory has a price here and nowhere else; no ledger ever sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from typing import Self

from policies.ladder import Gap, Ladder, Now, Policy, Timetable

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """lambda_w         watts that a waiting person is worth
    vram_w_per_gib   watts that held GPU memory is worth
    ram_w_per_gib    … and held host memory
    wake_cap_s       no rung that wakes more slowly is considered; None: any is
    """

    lambda_w: float = 100.0
    vram_w_per_gib: float = 0.05
    ram_w_per_gib: float = 0.01
    wake_cap_s: float | None = None


@dataclass(frozen=True, slots=True)
class Priced:
    """`policy`, asked with these prices, about rungs that wake within each cap."""

    policy: Policy
    prices: Prices = Prices()

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        ladder, now = self._seen(gap.ladder, gap.now)
        seen = Gap(gap.idle_s, gap.depth, ladder, now)
        return type(self)(self.policy.observe(seen), self.prices)

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        return self.policy.plan(*self._seen(ladder, now))

    def _seen(self, ladder: Ladder, now: Now) -> tuple[Ladder, Now]:
        if now.lambda_w != self.prices.lambda_w:
            now = replace(now, lambda_w=self.prices.lambda_w)
        caps_s = [cap_s for cap_s in (self.prices.wake_cap_s, now.wake_cap_s) if cap_s is not None]
        return priced(ladder, self.prices, min(caps_s, default=None)), now


@lru_cache(maxsize=64)
def priced(ladder: Ladder, prices: Prices, wake_cap_s: float | None) -> Ladder:
    """The rungs down to the first that wakes too slowly, each with the watts it counts for.

    Whoever arrives while one settles waits for that too; and whoever is led to a deeper one
    has settled on those above.
    """
    return tuple(
        replace(
            rung,
            power_w=rung.power_w
            + prices.vram_w_per_gib * rung.vram_bytes / GIB
            + prices.ram_w_per_gib * rung.ram_bytes / GIB,
        )
        for rung in takewhile(
            lambda rung: wake_cap_s is None or rung.enter_s + rung.wake_s <= wake_cap_s, ladder
        )
    )
