"""The bake: the first start of exactly these settings, while nobody waits for it.

A first start compiles for minutes; a first sleep makes the image that the weights come
back from. Both are done here, once for each recipe of the engine, and what came of it
is kept. It begins by itself when the daemon starts, or at the operator's word.

How it moves the engine, and how it makes way for requests: `appliance.errands.errand`.
"""

from __future__ import annotations

import logging
from asyncio import Queue
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance.clock import Clock, iso
from appliance.energy.meter_reader import MeterReader
from appliance.errands.errand import Errand, Errands, LeftOff
from appliance.errors import StorageFailed
from appliance.machine import lifecycle as lc
from appliance.machine.faults import unforeseen
from appliance.machine.supervisor import Supervisor
from appliance.notices import ApplianceChanged, Baking, Notices
from appliance.storage import ledger
from appliance.storage.journal import Journal
from appliance.storage.ledger import Baked
from appliance.storage.store import Store
from drivers.errors import DriverError
from drivers.protocols import Engine
from policies.ladder import Depth

log = logging.getLogger(__name__)

FAILED_BAKES = 3
"""Failed bakes in a row, after which only the operator's word begins another."""
MOST_SLEEPS = 100
"""On a slow disk each sleep makes 20 s worth of the image; more than this is no progress."""


@dataclass(frozen=True, slots=True)
class Wish:
    """by_operator  not by the daemon itself
    allowed      False: only see whether it is baked
    again        even if it is
    """

    by_operator: bool = False
    allowed: bool = True
    again: bool = False


class Bake:
    """One engine's. `run` does what the others ask for."""

    def __init__(
        self,
        *,
        engine: Engine,
        alias: str,
        store: Store,
        supervisor: Supervisor,
        errands: Errands,
        reader: MeterReader,
        journal: Journal,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self.state: dict[str, Any] | None = None  # JSON, docs/socket.md
        self._engine, self._alias = engine, alias
        self._store, self._journal = store, journal
        self._supervisor, self._errands, self._reader = supervisor, errands, reader
        self._notices, self._clock = notices, clock
        self._wishes: Queue[Wish] = Queue()
        self._told: Baking | None = None  # while one goes on: where it is
        self._errand: Errand | None = None
        self._began_s = 0.0

    def look(self, *, bake: bool) -> None:
        """See whether it is baked; if not, and `bake`, do it. Returns at once."""
        self._wishes.put_nowait(Wish(allowed=bake))

    def ask(self, *, again: bool = False) -> None:
        """The operator wants it baked; `again`: even if it is. Returns at once.

        Whoever listens to Baking hears how it ends. One that goes on is joined.
        """
        if self._told is not None:
            if self._errand is not None:
                self._errand.hasten()
            self._notices.tell(self._told)
        else:
            self._wishes.put_nowait(Wish(by_operator=True, again=again))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wish = await self._wishes.get()
            try:
                await self._carry_out(wish)
            except (DriverError, StorageFailed) as error:
                log.warning("not baked: %s", error)
                self._end({"state": "failed", "reason": str(error)}, "failed", str(error))

    async def _carry_out(self, wish: Wish) -> None:
        with unforeseen(self._alias):
            recipe = await self._engine.recipe()
        latest = await self._store.read(
            partial(ledger.latest_bakes, recipe=recipe, limit=FAILED_BAKES)
        )
        done = latest[0] if recipe and latest and latest[0].outcome == "ok" else None
        hopeless = len([row for row in latest if row.outcome == "failed"]) == FAILED_BAKES
        if done is not None and not wish.again:
            self._conclude(done)
        elif wish.by_operator:
            await self._bake(recipe, at_once=True)
        elif wish.allowed and recipe and not hopeless:
            await self._bake(recipe)
        elif hopeless:
            self.state = {"state": "failed", "reason": latest[0].error}
        elif recipe:
            self.state = {"state": "needed"}

    async def _bake(self, recipe: str, *, at_once: bool = False) -> None:
        """`at_once`: whoever has asked a moment ago."""
        error, missing = None, None
        began_at = iso(self._clock.utc())
        try:
            async with self._errands.begin("bake") as self._errand:
                log.info("baking: the first start of these settings; requests are served meanwhile")
                self._began_s, began_at = self._clock.now(), iso(self._clock.utc())
                if at_once:
                    self._errand.hasten()
                missing = await self._walk(self._errand)
        except LeftOff as why:
            if why.stopped:
                self._end({"state": "needed"}, "stopped", str(why))
                return
            error = str(why)
        finally:
            self._errand, self._told = None, None
        row = Baked(
            recipe=recipe,
            engine=self._alias,
            at=began_at,
            ended_at=iso(self._clock.utc()),
            seconds=self._clock.now() - self._began_s,
            outcome="failed" if error else "ok",
            error=error,
            missing=missing or None,
        )
        await self._reader.catch_up()  # of its moves, too, the joules are to be known
        self._conclude(await self._journal.put(partial(ledger.add_bake, row=row)))

    async def _walk(self, errand: Errand) -> str:
        """Wake it, and have it go to each rest that has something to prepare.

        Returns what it still lacks; raises LeftOff.
        """
        errand.lead(Depth.LIGHT)
        if self._supervisor.machine.state is not lc.State.AWAKE:
            self._tell("starting")
            await errand.come_up()
        self._tell("awake")
        missing = await self._sleep_until_whole(errand)
        if await errand.visit(Depth.PARKED):
            self._tell("parked")
        errand.lead(None)
        if self._supervisor.machine.state is lc.State.ASLEEP:
            await errand.come_up()
        errand.let_rest()
        return missing

    async def _sleep_until_whole(self, errand: Errand) -> str:
        """Sleep as often as it takes until nothing is missing, or sleeping does not help."""
        missing = ""
        for _ in range(MOST_SLEEPS):
            before = missing
            if not await errand.visit(Depth.LIGHT):
                return ""
            missing = self._supervisor.moves.missing
            self._tell("asleep", missing)
            if missing in {"", before}:
                break
        return missing

    # Telling.

    def _tell(self, step: str, detail: str = "") -> None:
        """It goes on, and this is where it is."""
        seconds = self._clock.now() - self._began_s
        log.info("baking: %s after %.1f s%s", step, seconds, f"; {detail}" if detail else "")
        self.state = {"state": "baking", "step": step}
        self._told = Baking(step=step, seconds=seconds, detail=detail)
        self._notices.tell(self._told)

    def _conclude(self, row: Baked) -> None:
        if row.outcome == "failed":
            log.warning("the bake failed: %s", row.error)
            reason = row.error or ""
            self._end({"state": "failed", "reason": reason}, "failed", reason, row.seconds)
            return
        missing = row.missing or ""
        if missing:
            log.warning("baked, but for this: %s", missing)
        state = {"state": "baked", "at": row.ended_at, "missing": row.missing}
        self._end(state, "baked", missing, row.seconds, at=row.ended_at, energy_j=row.energy_j)

    def _end(
        self,
        state: dict[str, Any],
        step: str,
        detail: str,
        seconds: float = 0.0,
        *,
        at: str | None = None,
        energy_j: float | None = None,
    ) -> None:
        self.state = state
        self._notices.tell(
            Baking(step=step, seconds=seconds, detail=detail, at=at, energy_j=energy_j)
        )
        self._notices.tell(ApplianceChanged())
