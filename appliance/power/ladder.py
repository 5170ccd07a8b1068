"""Which rungs this machine offers, and at what price: a guess until it has been measured.

The engine says what it can, a calibration what it costs (`appliance.errands.calibration`); what
a move takes is learned from each one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from appliance.power.prices import Price, Prices, rungs
from drivers.protocols import Engine, Rest
from policies.ladder import Depth, Ladder, Rung

GIB = 1 << 30

# One H200 with a 13 GB model and sleep level 2, perf boost off (docs/measurements,
# 2026-11-21). Here only as a guess, marked "built-in", until the machine itself has
# been measured.
AWAKE = Rung(depth=Depth.AWAKE, power_w=80.0)
RESTS = (
    Rung(
        depth=Depth.LIGHT,
        power_w=80.0,
        enter_s=0.1,
        wake_s=1.6,
        wake_j=200.0,
        vram_bytes=2 * GIB,
        ram_bytes=2 * GIB,
    ),
    Rung(
        depth=Depth.PARKED,
        power_w=79.0,
        enter_s=0.8,
        wake_s=1.9,
        wake_j=300.0,
        ram_bytes=2 * GIB,
    ),
    Rung(depth=Depth.STOPPED, power_w=79.0, enter_s=0.5, wake_s=7.0, wake_j=900.0, ram_bytes=GIB),
    Rung(depth=Depth.OFF, power_w=79.0, enter_s=2.0, wake_s=30.0, wake_j=3000.0),
)

NEEDS: Mapping[Depth, tuple[Rest, ...]] = {
    Depth.LIGHT: ("sleep",),
    Depth.PARKED: ("sleep", "park"),
    Depth.STOPPED: ("host",),
}
"""What an engine must be able to do for a depth to be offered."""


class Rungs:
    """One engine's ladder, as it is now.

    prices  of this machine, by a calibration; empty until there is one
    keep    is called with each price that a real move has changed
    """

    def __init__(self, engine: Engine, wake_s: Mapping[Depth, float]) -> None:
        """`wake_s`: what the ledger says the latest wake from a depth took here."""
        self.prices: Prices = {}
        self.keep: Callable[[Price], None] = lambda _: None
        self._engine = engine
        self._wake_s = dict(wake_s)
        self._withdrawn: dict[Depth, str] = {}

    def offered(self) -> Ladder:
        """AWAKE, what the engine can, OFF."""
        guesses = (self._guess(rung) for rung in RESTS if not self.lacks(rung.depth))
        return rungs(self.prices, (AWAKE, *guesses))

    def lacks(self, depth: Depth) -> str:
        """Why it is not offered; empty if it is."""
        missing = [self._engine.lacks.get(rest, "") for rest in NEEDS.get(depth, ())]
        return next(filter(None, missing), self._withdrawn.get(depth, ""))

    def withdraw(self, depth: Depth, why: str) -> None:
        """Offer it no more, until it is restored."""
        self._withdrawn[depth] = why

    def restore(self, depth: Depth) -> None:
        self._withdrawn.pop(depth, None)

    def expected_wake_s(self, depth: Depth) -> float:
        """Seconds from the order to wake until it can serve, as far as is known."""
        price = self.prices.get(depth)
        if price is not None and price.wake_s.count:
            return price.wake_s.p90
        rung = next((rung for rung in RESTS if rung.depth is depth), AWAKE)
        return self._guess(rung).wake_s

    @property
    def longest_wake_s(self) -> float:
        """From wherever it may rest."""
        return max(rung.wake_s for rung in self.offered())

    def learn(self, here: Depth, to: Depth, seconds: float) -> None:
        """A real move took that long."""
        if to is Depth.AWAKE:
            self._wake_s[here] = seconds
        if (found := self._moved(here, to)) is not None:
            price, up = found
            (price.wake_s if up else price.enter_s).add(seconds)
            self.keep(price)

    def learn_cost(self, here: Depth, to: Depth, energy_j: float) -> None:
        """A real move took so many joules, all told."""
        if (found := self._moved(here, to)) is not None:
            price, up = found
            (price.wake_j if up else price.enter_j).add(energy_j)
            self.keep(price)

    def above(self, depth: Depth) -> Depth:
        """From where the edge to it is paid for."""
        return max(rung.depth for rung in self.offered() if rung.depth < depth)

    def _moved(self, here: Depth, to: Depth) -> tuple[Price, bool] | None:
        """Whose price tells of it, and whether it was the way up. None: nobody's."""
        if to is Depth.AWAKE:
            price = self.prices.get(here)
            return None if price is None else (price, True)
        price = self.prices.get(to)
        return None if price is None or here is not self.above(to) else (price, False)

    def _guess(self, rung: Rung) -> Rung:
        return replace(rung, wake_s=self._wake_s.get(rung.depth, rung.wake_s))
