"""Leave the GPU to others after a while, whatever the prices say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Policy, Step, Timetable, depth_at


@dataclass(frozen=True, slots=True)
class Yielding:
    """yield_after_s  idle time after which the engine has left the GPU, if a rung lets it"""

    policy: Policy
    yield_after_s: float = 900.0

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        return replace(self, policy=self.policy.observe(gap))

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        steps = self.policy.plan(ladder, now)
        leaving = [rung for rung in ladder if rung.depth >= Depth.PARKED]
        if not leaving or depth_at(steps, self.yield_after_s) >= Depth.PARKED:
            return steps
        nearest = min(leaving, key=lambda rung: (rung.wake_s, rung.depth)).depth
        return (
            *(step for step in steps if step.after_s < self.yield_after_s),
            Step(self.yield_after_s, nearest),
            *(step for step in steps if step.after_s > self.yield_after_s and step.depth > nearest),
        )
