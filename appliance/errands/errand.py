"""An errand: the engine is taken from depth to depth while nobody needs it.

The bake is one, the calibration another; one at a time. It only proposes. An idle period
has its timetable as ever, in which the errand's next depth stands for the policy's; out
of rest it is led by a StepDue, which the machine drops if it has something else to do. So
requests come first at any time, and whatever becomes of an errand, the engine comes to rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.machine import lifecycle as lc
from appliance.machine.idleness import Goal
from appliance.machine.supervisor import Supervisor
from appliance.notices import ApplianceChanged, Notices, Subscription
from policies.ladder import Depth

TRIES = 3
"""Failures of the engine in one errand, after which that has failed."""


class LeftOff(Exception):
    """It did not come to an end. `stopped`: nothing is wrong, somebody wanted it so."""

    def __init__(self, why: str, *, stopped: bool = False) -> None:
        super().__init__(why)
        self.stopped = stopped


class Errands:
    """One engine's."""

    def __init__(self, supervisor: Supervisor, notices: Notices) -> None:
        self._supervisor, self._notices = supervisor, notices
        self._turn = asyncio.Lock()
        self._going: Errand | None = None
        self._stops = 0

    @asynccontextmanager
    async def begin(self, cause: str) -> AsyncIterator[Errand]:
        """Once the one that goes on has ended. When the context is left, this one has.

        cause  of its moves, in the ledger

        Raises LeftOff if somebody wanted none while it waited.
        """
        stops = self._stops
        async with self._turn:
            if self._stops != stops:
                raise LeftOff("it was stopped before it began", stopped=True)
            with self._notices.subscribed(
                lambda notice: isinstance(notice, ApplianceChanged), limit=1
            ) as changes:
                self._going = Errand(self._supervisor, changes, cause)
                try:
                    yield self._going
                finally:
                    self._supervisor.idleness.lead(None)
                    self._going = None

    def hasten(self) -> bool:
        """The operator waits for the end of the one that goes on. False if none does."""
        if self._going is None:
            return False
        self._going.hasten()
        return True

    def stop(self, why: str) -> None:
        """Leave off, if one goes on; those that wait for it do not begin."""
        self._stops += 1
        if self._going is not None:
            self._going.stop(why)
            self._notices.tell(ApplianceChanged())


class Errand:
    """Each way raises LeftOff if it is stopped, or if the engine fails too often."""

    def __init__(self, supervisor: Supervisor, changes: Subscription, cause: str) -> None:
        self._supervisor, self._changes, self._cause = supervisor, changes, cause
        self._failures = supervisor.retries.failures
        self._stopped = ""

    def stop(self, why: str) -> None:
        self._stopped = why

    def hasten(self) -> None:
        """By the operator's word: at once, whoever has asked before, and whatever has failed."""
        self._supervisor.idleness.rests()
        failed = self._supervisor.machine.state is lc.State.FAILED
        self._supervisor.post(lc.WakeAsked() if failed else lc.PlanChanged())

    def lead(self, depth: Depth | None) -> None:
        """From now on an idle period ends there, this one too; None: where the policy rests."""
        self._supervisor.idleness.lead(None if depth is None else Goal(depth, self._cause))
        self._supervisor.post(lc.PlanChanged())

    async def visit(self, depth: Depth) -> bool:
        """Have it go there anew, from above. False if that is not offered, or no more."""
        self.lead(depth)
        return await self._reached(depth)

    async def go(self, depth: Depth) -> bool:
        """Likewise, from wherever it is: down without waking in between, or up."""
        self.lead(depth)
        return await self._reached(depth, directly=True)

    async def go_up(self) -> None:
        """Have it awake, and stay so while nobody asks."""
        self.lead(Depth.AWAKE)
        await self.come_up()

    async def come_up(self) -> None:
        """Have it awake."""
        if self._supervisor.machine.state is not lc.State.AWAKE:
            await self._reached(Depth.AWAKE)

    async def go_home(self, by_way_of: Depth | None = None) -> None:
        """Have it where the policy wants it by now; what was told to `stop` before is done.

        by_way_of  it has to be there in between
        """
        self._stopped = ""
        if by_way_of is not None:
            await self.go(by_way_of)
        self.lead(None)
        if self._supervisor.machine.depth > self._supervisor.idleness.resting:
            await self.come_up()
        self.let_rest()

    def let_rest(self) -> None:
        """Where the policy has it in the end; unless somebody has asked for it meanwhile."""
        if self._supervisor.idleness.undisturbed:
            goal = self._supervisor.idleness.resting
            self._supervisor.post(lc.StepDue(goal, self._cause))

    def look_out(self) -> None:
        """Raise LeftOff if it is not to go on."""
        if self._stopped:
            raise LeftOff(self._stopped, stopped=True)
        retries = self._supervisor.retries
        self._failures = min(self._failures, retries.failures)  # an answer ends the counting
        failed = retries.failures - self._failures
        if failed >= TRIES or (failed and retries.lasting):
            raise LeftOff(self._supervisor.moves.failure or "the engine failed")

    async def _reached(self, depth: Depth, *, directly: bool = False) -> bool:
        """Return True once it has arrived there anew; False if that is not offered.

        How far it is is read from counters: states may pass while nobody looks.
        """
        arrivals = self._supervisor.moves.arrivals
        before = arrivals[depth]
        while arrivals[depth] == before:
            self.look_out()
            machine = self._supervisor.machine
            # While it moves, one that has just failed may be withdrawn and not yet counted.
            moves = machine.state in {lc.State.SETTLING, lc.State.WAKING}
            if not moves and self._supervisor.moves.rungs.lacks(depth):
                return False
            if machine.state is lc.State.ASLEEP:
                onward = directly and machine.depth < depth
                next_ = depth if onward else Depth.AWAKE
                self._supervisor.post(lc.StepDue(next_, self._cause))
            await anext(self._changes)
        return True
