"""How things stand, and why: what the desk tells of the machine, as JSON (docs/socket.md)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from msgspec.structs import asdict

from appliance.clock import Clock, iso
from appliance.errands.bake import Bake
from appliance.errands.calibration import Calibration
from appliance.machine.deferral import Deferral
from appliance.machine.roster import Roster
from appliance.machine.supervisor import Supervisor
from appliance.storage import ledger
from appliance.storage.journal import Journal
from appliance.storage.store import Store
from policies.ladder import Depth


class Standing:
    """Of one engine. Only looks."""

    def __init__(
        self,
        *,
        alias: str,
        supervisor: Supervisor,
        roster: Roster,
        bake: Bake,
        calibration: Calibration,
        deferral: Deferral,
        journal: Journal,
        store: Store,
        clock: Clock,
    ) -> None:
        self._alias = alias
        self._supervisor, self._roster = supervisor, roster
        self._bake, self._calibration, self._deferral = bake, calibration, deferral
        self._journal, self._store, self._clock = journal, store, clock

    def state(self) -> dict[str, Any]:
        machine, load = self._supervisor.machine, self._roster.load
        facts, deferred = self._supervisor.moves.facts, len(self._roster.deferred)
        return {
            "state": machine.state.name.lower(),
            "depth": ledger.word(machine.depth),
            "since": self._supervisor.since,
            "engine": self._alias,
            "version": facts.version if facts else None,
            "pids": list(facts.pids) if facts else [],
            "waiting": load.waiting,
            "running": load.running,
            "deferred": deferred,
            "deferred_until": self._at(self._deferral.latest_s) if deferred else None,
            "expected_wake_s": round(self._supervisor.expected_wake_s, 1),
            "failure": self._supervisor.moves.failure,
            "lacks": {
                ledger.word(depth): why
                for depth in Depth
                if (why := self._supervisor.moves.rungs.lacks(depth))
            },
            "retry_at": self._supervisor.retries.due_at,
            "bake": self._bake.state,
            "calibration": self._calibration.state,
            "smaller": list(self._supervisor.moves.smaller),
            "ledger_rows_lost": self._journal.lost,
            "set_aside": str(self._store.set_aside) if self._store.set_aside else None,
        }

    async def why(self, limit: int) -> dict[str, Any]:
        """The timetable in force, and the latest `limit` decisions and moves, oldest first."""
        machine, timetable = self._supervisor.machine, self._supervisor.timetable
        plan = timetable.plan if timetable.begun else None
        steps = [(step.depth, plan.since_s + step.after_s) for step in plan.steps] if plan else []
        moves = await self._store.read(
            partial(ledger.latest_moves, engine=self._alias, limit=limit)
        )
        return {
            "state": machine.state.name.lower(),
            "depth": ledger.word(machine.depth),
            "since": self._supervisor.since,
            "timetable": [
                {"depth": ledger.word(depth), "at": self._at(at_s)} for depth, at_s in steps
            ],
            "by": plan.by if plan else None,
            "decisions": [asdict(told) for told in list(self._supervisor.decisions)[-limit:]],
            "transitions": moves,
        }

    def _at(self, at_s: float) -> str:
        """An instant of the boot clock, for people."""
        return iso(self._clock.utc() + timedelta(seconds=at_s - self._clock.now()))
