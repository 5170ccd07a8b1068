"""Do not go up and down all the time: it wears relays, disks and patience.

How long to wait after a wake that failed is the appliance's business
(`appliance/machine/retries.py`); here are those that succeed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Policy, Step, Timetable

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Sparing:
    """min_awake_s         once awake, it stays so for at least this long
    max_wakes_per_hour  after so many it stays awake until the first is an hour ago; 0: any number
    clock_s             of its own: seconds that it has seen
    woken_s             when it has woken, by that clock; the latest ones
    """

    policy: Policy
    min_awake_s: float = 0.0
    max_wakes_per_hour: int = 0
    clock_s: float = 0.0
    woken_s: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        now_s = self.clock_s + gap.now.busy_s + gap.idle_s
        woken_s = self.woken_s
        if gap.depth is not Depth.AWAKE:
            woken_s = (*woken_s, now_s)[-max(1, self.max_wakes_per_hour) :]
        return replace(self, policy=self.policy.observe(gap), clock_s=now_s, woken_s=woken_s)

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        begin_s = self.clock_s + now.busy_s
        until_s = 0.0
        if self.woken_s:
            until_s = self.woken_s[-1] + self.min_awake_s - begin_s
            if 0 < self.max_wakes_per_hour <= len(self.woken_s):
                until_s = max(until_s, self.woken_s[0] + HOUR_S - begin_s)
        return not_before(until_s, self.policy.plan(ladder, now))


def not_before(awake_s: float, steps: Timetable) -> Timetable:
    """The same timetable, but awake for so long. Of what is due by then, the last one counts."""
    due = [step for step in steps if step.after_s < awake_s]
    if not due or due[-1].depth is Depth.AWAKE:
        return (*due[:1], *steps[len(due) :]) if due else steps
    return (steps[0], Step(awake_s, due[-1].depth), *steps[len(due) :])
