"""Measures the ladder: each rung's watts, each way's seconds and joules, what is held.

It walks down one rung after the other, stays until the watts are level, and wakes it, as
often as is wanted. What was disturbed, because somebody asked meanwhile, does not count
and is done again. Each price is told as soon as something of it is new, so that whoever
ends this at any moment keeps what there is by then.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Literal

from appliance.clock import Clock, iso
from appliance.desk import Calibrate
from appliance.errands.errand import Errand
from appliance.machine.lifecycle import State
from appliance.machine.moves import Passed
from appliance.machine.supervisor import Supervisor
from appliance.power.ladder import Rungs
from appliance.power.prices import Price
from appliance.power.steady import COUNT, PATIENCE, Resting, Stretch, find_resting, same_w
from drivers.held import Held
from drivers.protocols import Engine, Sample
from policies.ladder import Depth

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[Sample | None]]
"""Of the meter that bills, now. None: there is none, or it would wake a device at rest."""

FEW = 2
"""Starts from OFF: each takes half a minute, and is much like the one before."""


class Measuring:
    """One engine's ladder, once. `tell(step, depth)` is called as it goes on.

    restart  the engine that runs is one to compare with: it has to be there, and started anew
    boost_w  what the engine draws awake and idle without what saves that; None: not measured
    """

    def __init__(
        self,
        errand: Errand,
        wish: Calibrate,
        *,
        engine: Engine,
        rungs: Rungs,
        source: str | None,
        supervisor: Supervisor,
        clock: Clock,
        look: Look,
        weigh: Callable[[bool], Held],
        tell: Callable[[str, Depth], None],
    ) -> None:
        """`source`: of the meter; `weigh(on_gpu)`: what our processes hold; may take a second."""
        self.restart: Depth | None = None
        self.boost_w: float | None = None
        self._errand, self._wish, self._engine = errand, wish, engine
        self._rungs, self._source = rungs, source
        self._supervisor, self._clock = supervisor, clock
        self._look, self._weigh, self._tell = look, weigh, tell
        self._blind: set[Depth] = set()
        self._weighed: dict[Depth, Held] = {}

    @property
    def depths(self) -> list[Depth]:
        return [rung.depth for rung in self._rungs.offered()]

    def left_s(self) -> float:
        """About how long it will take from here."""
        return sum(self._resting_s(depth) + self._cycling_s(depth) for depth in self.depths)

    async def run(self) -> None:
        """Return when nothing is left to measure. Raises LeftOff."""
        if self._wish.again:
            self._rungs.prices.clear()
        boosted = self._engine.as_shipped is not None and self._lacks_watts(Depth.AWAKE)
        self._tell("starting", Depth.AWAKE)
        await self._errand.go_up()
        for depth in self.depths:
            self._price(depth)  # from here on its ways count; the start before did not
        while self._lacks_watts(Depth.AWAKE):
            await self._errand.go_up()
            await self._rest(Depth.AWAKE)
        for depth in self.depths[1:]:
            while self._lacks(depth):
                await self._down_and_up(depth)
        self._note_held()
        if boosted and self._price(Depth.AWAKE).power_w is not None:
            await self._see_boost()

    # What is left.

    def _lacks(self, depth: Depth) -> bool:
        if self._rungs.lacks(depth):
            return False
        return self._lacks_watts(depth) or self._cycles_left(depth) > 0

    def _lacks_watts(self, depth: Depth) -> bool:
        price = self._rungs.prices.get(depth)
        if price is None or depth in self._blind:
            return price is None
        return (price.power_w is None and self._source is not None) or price.ram_bytes is None

    def _cycles_left(self, depth: Depth) -> int:
        wanted = min(self._wish.cycles, FEW) if depth is Depth.OFF else self._wish.cycles
        price = self._rungs.prices.get(depth)
        return wanted if price is None else wanted - min(price.wake_s.count, price.enter_s.count)

    def _resting_s(self, depth: Depth) -> float:
        if not self._lacks_watts(depth):
            return 0.0
        return 1.25 * self._wish.over_s if self._source is not None else 0.0

    def _cycling_s(self, depth: Depth) -> float:
        if depth is Depth.AWAKE:
            return 0.0
        way_s = sum(r.enter_s for r in self._rungs.offered() if r.depth <= depth)
        return self._cycles_left(depth) * (way_s + self._rungs.expected_wake_s(depth))

    # How it is measured.

    async def _see_boost(self) -> None:
        """Start it once as its maker ships it, and see what it draws awake; then it is stopped."""
        price = self._price(Depth.AWAKE)
        as_it_is = price.power_w
        restart = next(d for d in (Depth.STOPPED, Depth.OFF) if d in self.depths)
        self._tell("as shipped", Depth.AWAKE)
        try:
            await self._errand.go(restart)
            self._engine.as_shipped, self.restart = True, restart
            while (found := await self._level(Depth.AWAKE)) is None:
                await self._errand.go_up()
        finally:
            self._engine.as_shipped = False
        await self._errand.go(restart)
        self.restart = None
        if isinstance(found, Resting) and as_it_is is not None:
            saved_w = found.power_w - as_it_is
            seen = saved_w > same_w(as_it_is, math.hypot(found.spread_w, price.spread_w))
            self.boost_w = saved_w if seen else 0.0

    async def _down_and_up(self, depth: Depth) -> None:
        """To `depth` by each rung above it, and up again; breaks off where it is disturbed."""
        await self._errand.go_up()
        for to in [d for d in self.depths if Depth.AWAKE < d <= depth]:
            if not await self._pass("down", to):
                return
            if self._lacks_watts(to) and not await self._rest(to):
                return
        await self._pass("up", depth)

    async def _pass(self, step: str, depth: Depth) -> bool:
        """One way, down to `depth` or up from there. False if that was not what happened."""
        self._tell(step, depth)
        here, to = (depth, Depth.AWAKE) if step == "up" else (self._supervisor.machine.depth, depth)
        begun, before = self._supervisor.begun, await self._look()
        if not await self._errand.go(to):
            return False
        passed = self._supervisor.moves.latest
        after = await self._look()
        if passed is None or (passed.here, passed.to) != (here, to):
            return False
        if self._supervisor.begun == begun and before and after and before.epoch == after.epoch:
            self._rungs.learn_cost(here, to, self._cost_j(passed, before, after))
        return True

    def _cost_j(self, passed: Passed, before: Sample, after: Sample) -> float:
        """Of the way alone: without what was drawn at rest before it and after it."""
        above_s = max(0.0, passed.began_s - before.at_s)
        below_s = max(0.0, after.at_s - passed.began_s - passed.seconds)
        rest_j = above_s * self._power_w(passed.here) + below_s * self._power_w(passed.to)
        return max(0.0, after.energy_j - before.energy_j - rest_j)

    def _power_w(self, depth: Depth) -> float:
        """At rest there, as far as is known by now."""
        price = self._rungs.prices.get(depth)
        return price.power_w if price and price.power_w is not None else 0.0

    async def _rest(self, depth: Depth) -> bool:
        """Stay until the watts are level. False if that was disturbed."""
        self._tell("resting", depth)
        if (found := await self._level(depth)) is None:
            return False
        price = self._price(depth)
        if isinstance(found, Resting):
            price.power_w, price.spread_w, price.settle_s = found
            price.source, price.at = self._source, iso(self._clock.utc())
        else:
            self._blind.add(depth)
        on_gpu = depth <= Depth.PARKED
        self._weighed[depth] = held = await asyncio.to_thread(self._weigh, on_gpu)
        price.ram_bytes = held.ram_bytes
        price.vram_bytes = held.vram_bytes if on_gpu else 0
        self._note_held()
        self._rungs.keep(price)
        return True

    async def _level(self, depth: Depth) -> Resting | Literal["not to be seen"] | None:
        """What is drawn there, once it is level. None: it is not there, or was disturbed."""
        begun, moved = self._supervisor.begun, self._supervisor.moves.latest
        stretches: list[Stretch] = []
        last = await self._look() if self._is_at(depth) else None
        tries = 0
        while last is not None and (found := find_resting(stretches)) is None:
            tries += 1
            await self._clock.sleep_until(self._clock.now() + self._wish.over_s / COUNT)
            self._errand.look_out()
            sample = await self._look()
            if self._supervisor.begun != begun or self._supervisor.moves.latest is not moved:
                return None
            if sample is None or sample.epoch != last.epoch or tries > 2 * PATIENCE:
                last = None
            elif (seconds := sample.at_s - last.at_s) > 0:
                power_w = max(0.0, sample.energy_j - last.energy_j) / seconds
                stretches.append(Stretch(seconds, power_w))
                last = sample
        if not self._is_at(depth):
            return None
        return "not to be seen" if last is None else found

    def _price(self, depth: Depth) -> Price:
        fresh = Price(depth=depth, at=iso(self._clock.utc()), source=self._source)
        return self._rungs.prices.setdefault(depth, fresh)

    def _is_at(self, depth: Depth) -> bool:
        machine = self._supervisor.machine
        at_rest = machine.state is (State.AWAKE if depth is Depth.AWAKE else State.ASLEEP)
        return at_rest and machine.depth is depth

    def _note_held(self) -> None:
        """Where NVML cannot tell whose memory it is: by how much more than without it."""
        base = self._weighed.get(Depth.PARKED)
        if base is None or base.used_bytes is None:
            return
        for depth, held in self._weighed.items():
            price = self._price(depth)
            if price.vram_bytes is None and held.used_bytes is not None:
                price.vram_bytes = max(0, held.used_bytes - base.used_bytes)
                self._rungs.keep(price)
