"""The bake: the first start of exactly these settings, while nobody waits for it.

A first start compiles for minutes; a first sleep makes the image that the weights come
back from. Both are done here, once for each recipe of the engine, and what came of it
is kept. It begins by itself when the daemon starts, or at the operator's word.

It only proposes. An idle period has its timetable as ever, in which the bake's next depth
stands for the policy's; from there it is woken by a StepDue, which the machine drops if
it has something else to do. So requests come first at any time, and whatever becomes of
a bake, the engine comes to rest.
"""

from __future__ import annotations

import logging
from asyncio import Queue
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance import ledger
from appliance import lifecycle as lc
from appliance.clock import Clock, iso
from appliance.errors import StorageFailed
from appliance.journal import Journal
from appliance.ledger import Baked
from appliance.notices import ApplianceChanged, Baking, Notices, Subscription
from appliance.store import Store
from appliance.supervisor import Supervisor
from drivers.errors import DriverError
from drivers.protocols import Engine
from policies.ladder import Depth

log = logging.getLogger(__name__)

TRIES = 3
"""Failures of the engine in one bake, after which that has failed."""
FAILED_BAKES = 3
"""Failed bakes in a row, after which only the operator's word begins another."""
MOST_SLEEPS = 100
"""On a slow disk each sleep makes 20 s worth of the image; more than this is no progress."""


class Unbaked(Exception):
    """It did not come to an end. `stopped`: nothing is wrong, somebody wanted it so."""

    def __init__(self, why: str, *, stopped: bool = False) -> None:
        super().__init__(why)
        self.stopped = stopped


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
        journal: Journal,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self.state: dict[str, Any] | None = None  # JSON, docs/socket.md
        self._engine, self._alias = engine, alias
        self._store, self._journal = store, journal
        self._supervisor, self._notices, self._clock = supervisor, notices, clock
        self._wishes: Queue[Wish] = Queue()
        self._told: Baking | None = None  # while one goes on: where it is
        self._stop = ""
        self._began_s = 0.0
        self._failures = 0

    def look(self, *, bake: bool) -> None:
        """See whether it is baked; if not, and `bake`, do it. Returns at once."""
        self._wishes.put_nowait(Wish(allowed=bake))

    def ask(self, *, again: bool = False) -> None:
        """The operator wants it baked; `again`: even if it is. Returns at once.

        Whoever listens to Baking hears how it ends. One that goes on is joined.
        """
        if self._told is not None:
            self._make_way()
            self._notices.tell(self._told)
        else:
            self._wishes.put_nowait(Wish(by_operator=True, again=again))

    def stop(self, why: str) -> None:
        """Leave off, if one goes on: the next daemon begins another."""
        if self._told is not None:
            self._stop = why
            self._notices.tell(ApplianceChanged())

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
        recipe = await self._engine.recipe()
        latest = await self._store.read(
            partial(ledger.latest_bakes, recipe=recipe, limit=FAILED_BAKES)
        )
        done = latest[0] if recipe and latest and latest[0].outcome == "ok" else None
        hopeless = len([row for row in latest if row.outcome == "failed"]) == FAILED_BAKES
        if done is not None and not wish.again:
            self._conclude(done)
        elif wish.by_operator:
            self._make_way()
            await self._bake(recipe)
        elif wish.allowed and recipe and not hopeless:
            await self._bake(recipe)
        elif hopeless:
            self.state = {"state": "failed", "reason": latest[0].error}
        elif recipe:
            self.state = {"state": "needed"}

    async def _bake(self, recipe: str) -> None:
        log.info("baking: the first start of these settings; requests are served meanwhile")
        self._began_s, began_at = self._clock.now(), iso(self._clock.utc())
        self._failures, self._stop = self._supervisor.retries.failures, ""
        error, missing = None, None
        try:
            with self._notices.subscribed(
                lambda notice: isinstance(notice, ApplianceChanged), limit=1
            ) as changes:
                missing = await self._walk(changes)
        except Unbaked as why:
            if why.stopped:
                self._end({"state": "needed"}, "stopped", str(why))
                return
            error = str(why)
        finally:
            self._supervisor.idleness.errand = None
            self._told = None
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
        self._conclude(await self._journal.put(partial(ledger.add_bake, row=row)))

    def _make_way(self) -> None:
        """The operator's word: at once, whoever has asked before, and whatever has failed."""
        self._supervisor.idleness.rests()
        failed = self._supervisor.machine.state is lc.State.FAILED
        self._supervisor.post(lc.WakeAsked() if failed else lc.PlanChanged())

    async def _walk(self, changes: Subscription) -> str:
        """Wake it, and have it go to each rest that has something to prepare.

        Returns what it still lacks; raises Unbaked.
        """
        self._lead(Depth.LIGHT)
        if self._supervisor.machine.state is not lc.State.AWAKE:
            self._tell("starting")
            await self._reached(Depth.AWAKE, changes)
        self._tell("awake")
        missing = await self._sleep_until_whole(changes)
        if await self._visit(Depth.PARKED, changes):
            self._tell("parked")
        self._lead(None)
        if self._supervisor.machine.state is lc.State.ASLEEP:
            await self._reached(Depth.AWAKE, changes)
        if self._supervisor.idleness.undisturbed:
            self._supervisor.post(lc.StepDue(self._supervisor.idleness.resting, "bake"))
        return missing

    async def _sleep_until_whole(self, changes: Subscription) -> str:
        """Sleep as often as it takes until nothing is missing, or sleeping does not help."""
        missing = ""
        for _ in range(MOST_SLEEPS):
            before = missing
            if not await self._visit(Depth.LIGHT, changes):
                return ""
            missing = self._supervisor.moves.missing
            self._tell("asleep", missing)
            if missing in {"", before}:
                break
        return missing

    async def _visit(self, depth: Depth, changes: Subscription) -> bool:
        """Have it rest there. False if that is not offered, or no more."""
        self._lead(depth)
        return await self._reached(depth, changes)

    def _lead(self, depth: Depth | None) -> None:
        """From now on an idle period ends there, this one too; None: where the policy rests."""
        self._supervisor.idleness.errand = depth
        self._supervisor.post(lc.PlanChanged())

    async def _reached(self, depth: Depth, changes: Subscription) -> bool:
        """Return True once it has arrived there anew; False if that is not offered."""
        arrivals = self._supervisor.moves.arrivals
        before = arrivals[depth]
        while arrivals[depth] == before:
            if not self._offers(depth):
                return False
            self._look_out()
            if self._supervisor.machine.state is lc.State.ASLEEP:
                self._supervisor.post(lc.StepDue(Depth.AWAKE, "bake"))
            await anext(changes)
        return True

    def _offers(self, depth: Depth) -> bool:
        return not self._supervisor.moves.rungs.lacks(depth)

    def _look_out(self) -> None:
        """Raise Unbaked if it is not to go on."""
        if self._stop:
            raise Unbaked(self._stop, stopped=True)
        retries = self._supervisor.retries
        self._failures = min(self._failures, retries.failures)  # an answer ends the counting
        failed = retries.failures - self._failures
        if failed >= TRIES or (failed and retries.lasting):
            raise Unbaked(self._supervisor.moves.failure or "the engine failed")

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
