"""Follows the timetable of an idle period: one timer, for its next step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from appliance.clock import Clock
from appliance.machine import lifecycle as lc
from appliance.machine.idleness import Idleness, Plan
from policies.ladder import Depth


class Following:
    """`post` is told each step as it becomes due.

    plan  the latest one; in force if `begun` and not `end`ed since
    """

    def __init__(self, idleness: Idleness, clock: Clock, post: Callable[[lc.Event], None]) -> None:
        self.plan: Plan | None = None
        self._idleness, self._clock, self._post = idleness, clock, post
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """One is followed, or was until its last step."""
        return self._task is not None

    def begin(self, tasks: asyncio.TaskGroup) -> Plan:
        """An idle period begins, or goes on."""
        if self._idleness.rest_wish is not None:
            self._post(lc.RestAsked(self._idleness.rest_wish))
        self.plan = self._idleness.plan()
        self._task = tasks.create_task(self._follow(self.plan), name="timetable")
        return self.plan

    def end(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self, plan: Plan) -> None:
        passed_s = self._clock.now() - plan.since_s
        # Of what was due before, the last one counts.
        late = [step for step in plan.steps if step.after_s <= passed_s]
        for step in (*late[-1:], *plan.steps[len(late) :]):
            if step.depth is not Depth.AWAKE or step.after_s > 0:
                await self._clock.sleep_until(plan.since_s + step.after_s)
                self._post(lc.StepDue(step.depth, plan.cause))
