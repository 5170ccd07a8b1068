"""The calibration: what this machine's ladder costs, measured when the operator wants it.

Prices are kept by what the engine is made of and by the meter's device; for another
engine, driver or set of flags they are another's, and that is told. In between they
follow every real move.

It goes on for as long as somebody follows it. Whenever it ends, what has been measured
is kept, and the engine is taken to where its policy wants it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from asyncio import Queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from appliance.clock import Clock, iso
from appliance.desk import Calibrate
from appliance.errands.errand import Errand, Errands, LeftOff
from appliance.errands.measuring import Look, Measuring
from appliance.errors import StorageFailed
from appliance.machine import lifecycle as lc
from appliance.machine.faults import unforeseen
from appliance.machine.supervisor import Supervisor
from appliance.notices import ApplianceChanged, Calibrating, Notices
from appliance.power import prices
from appliance.power.ladder import Rungs
from appliance.power.price_table import price_table, steps_json
from appliance.power.prices import Price
from appliance.storage import ledger
from appliance.storage.journal import Journal
from appliance.storage.store import Store
from drivers.errors import DriverError
from drivers.held import Held
from drivers.protocols import Engine
from policies.ladder import Depth

log = logging.getLogger(__name__)


class Calibration:
    """One engine's, on one device. `run` does what `follow` asks for.

    state  JSON, docs/socket.md
    """

    def __init__(
        self,
        *,
        engine: Engine,
        alias: str,
        device: str,
        source: str | None,
        rungs: Rungs,
        store: Store,
        supervisor: Supervisor,
        errands: Errands,
        journal: Journal,
        notices: Notices,
        clock: Clock,
        look: Look,
        weigh: Callable[[bool], Held],
    ) -> None:
        """`source`: of the meter that bills; None: there is none."""
        self.state: dict[str, Any] = {"state": "unknown"}
        self._engine, self._alias, self._device, self._source = engine, alias, device, source
        self._rungs, self._store, self._journal = rungs, store, journal
        self._supervisor, self._errands = supervisor, errands
        self._notices, self._clock = notices, clock
        self._look, self._weigh = look, weigh
        self._recipe, self._made_of, self._identity = "", "{}", ""
        self._wishes: Queue[Calibrate | None] = Queue()
        self._followers = 0
        self._going = False
        self._errand: Errand | None = None
        self._began_s = 0.0
        self._boost_w: float | None = None
        rungs.keep = self._keep

    @contextmanager
    def follow(self, wish: Calibrate) -> Iterator[None]:
        """Have it done, or join the one that goes on; it ends when the last one leaves.

        Whoever listens to Calibrating hears how it goes on, and how it ends.
        """
        self._followers += 1
        if not self._going:
            self._going = True
            self._wishes.put_nowait(wish)
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers and self._errand is not None:
                self._errand.stop("nobody follows it any more")
                self._notices.tell(ApplianceChanged())

    async def run(self) -> None:
        """Until cancelled."""
        with self._notices.subscribed(self._hear):
            await self._load()
            while True:
                wish = await self._wishes.get()
                await self._load()
                if wish is not None:
                    await self._carry_out(wish)

    def result(self) -> dict[str, Any]:
        """Every rung with its price, and what the policy makes of them."""
        idleness = self._supervisor.idleness
        return {
            "rungs": price_table(self._rungs.prices, idleness.ladder),
            "policy": idleness.policy,
            "timetable": steps_json(idleness.timetable),
            "estimated": self._source == "estimate",
            "measured": self._source is not None,
            "boost_w": self._boost_w,
        }

    # What is known.

    async def _load(self) -> None:
        """What was measured of this very engine; nothing of any other."""
        try:
            with unforeseen(self._alias):
                made_of = dict(await self._engine.ingredients())
            made_of_json = json.dumps(made_of, sort_keys=True)
            recipe = hashlib.sha256(made_of_json.encode()).hexdigest()[:32]
            if recipe != self._recipe:
                found = await self._store.read(
                    partial(prices.load, recipe=recipe, device=self._device)
                )
                self._recipe, self._made_of = recipe, made_of_json
                self._rungs.prices = found
            learned = await self._store.read(
                partial(ledger.learned, engine=self._alias, device=self._device)
            )
            self._boost_w = learned.get(("boost_w", ""))
            before = await self._store.read(
                partial(prices.latest_made_of, engine=self._alias, device=self._device)
            )
        except (DriverError, StorageFailed) as error:
            self.state = {"state": "unknown", "reason": str(error)}
            return
        self._judge(made_of, before)

    def _judge(self, made_of: dict[str, str], before: dict[str, str] | None) -> None:
        """Whether the prices can be gone by; told if they cannot any more."""
        was = self.state["state"]
        measured = [p for p in self._rungs.prices.values() if p.wake_s.count or p.power_w]
        if measured:
            lacking = [
                rung.depth.name.lower()
                for rung in self._supervisor.idleness.ladder
                if self._is_lacking(rung.depth)
            ]
            at = min(price.at for price in measured)
            self.state = {"state": "partial" if lacking else "calibrated", "at": at}
            self.state |= {"lacking": lacking} if lacking else {}
            return
        if before is None:
            self.state = {"state": "never"}
            return
        changed = changes(before, made_of)
        self.state = {"state": "stale", "changed": changed}
        if was != "stale":
            log.warning(
                "the ladder was measured for another engine (%s): `wattnap calibrate` does it anew",
                ", ".join(changed),
            )

    def _is_lacking(self, depth: Depth) -> bool:
        price = self._rungs.prices.get(depth)
        if price is None:
            return True
        return depth is not Depth.AWAKE and not (price.wake_s.count and price.enter_s.count)

    def _hear(self, notice: object) -> bool:
        """Another engine may have started than the last one: another file, another vLLM."""
        facts = self._supervisor.moves.facts
        if isinstance(notice, ApplianceChanged) and facts is not None:
            if self._identity and facts.identity != self._identity:
                self._wishes.put_nowait(None)
            self._identity = facts.identity
        return False

    def _keep(self, price: Price) -> None:
        work = partial(
            prices.keep,
            recipe=self._recipe,
            device=self._device,
            engine=self._alias,
            made_of=self._made_of,
            price=price.copy(),
        )
        self._journal.put(work, may_be_lost=True)

    def _keep_boost(self, boost_w: float) -> None:
        self._boost_w = boost_w
        work = partial(
            ledger.keep_learned,
            engine=self._alias,
            device=self._device,
            rows={("boost_w", ""): boost_w},
            at=iso(self._clock.utc()),
        )
        self._journal.put(work, may_be_lost=True)

    # How it is done.

    async def _carry_out(self, wish: Calibrate) -> None:
        step, detail = "calibrated", ""
        before, self._began_s = self.state, self._clock.now()
        try:
            if not self._recipe:
                raise LeftOff(str(before.get("reason", "it is not known which engine that is")))
            if self._errands.hasten():
                log.info("calibrating: once the bake has ended")
                self._tell("waiting")
            async with self._errands.begin("calibrate") as self._errand:
                await self._measure(self._errand, wish)
        except LeftOff as why:
            step, detail = ("stopped" if why.stopped else "failed"), str(why)
        finally:
            self._errand, self._going, self.state = None, False, before
        await self._load()
        self._end(step, detail)

    async def _measure(self, errand: Errand, wish: Calibrate) -> None:
        if not self._followers:
            raise LeftOff("nobody follows it any more", stopped=True)
        log.info("calibrating: every rung is measured; requests are served meanwhile")
        measuring = Measuring(
            errand,
            wish,
            engine=self._engine,
            rungs=self._rungs,
            source=self._source,
            supervisor=self._supervisor,
            clock=self._clock,
            look=self._look,
            weigh=self._weigh,
            tell=lambda step, depth: self._tell(step, depth, measuring.left_s()),
        )
        errand.hasten()
        try:
            await measuring.run()
        except LeftOff:
            if not self._followers:
                await errand.go_home(measuring.restart)
            elif measuring.restart is not None:
                self._supervisor.post(lc.StepDue(measuring.restart, "calibrate"))
            raise
        if measuring.boost_w is not None:
            self._keep_boost(measuring.boost_w)
        await errand.go_home()

    def _tell(self, step: str, depth: Depth | None = None, left_s: float = 0.0) -> None:
        seconds = self._clock.now() - self._began_s
        word = "" if depth is None else depth.name.lower()
        if word:
            log.info("calibrating: %s %s, about %.0f s to go", step, word, left_s)
        self.state = {"state": "calibrating", "step": step, "depth": word, "left_s": round(left_s)}
        self._notices.tell(Calibrating(step=step, depth=word, seconds=seconds, left_s=left_s))

    def _end(self, step: str, detail: str) -> None:
        seconds = self._clock.now() - self._began_s
        if step == "calibrated":
            log.info("calibrated after %.0f s", seconds)
        else:
            log.warning("not calibrated: %s", detail)
        self._notices.tell(Calibrating(step=step, seconds=seconds, detail=detail))
        self._notices.tell(ApplianceChanged())


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What is another now, in words: "driver 580.159 → 590.11", "flags"."""
    told = []
    for name in sorted({*before, *now}):
        was, is_ = before.get(name, ""), now.get(name, "")
        if was != is_:
            named = name in {"driver", "vLLM", "torch", "GPU", "memory", "sleep level"}
            told.append(f"{name} {was or 'none'} → {is_ or 'none'}" if named else name)
    return told
