"""Rest no deeper than allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Policy, Timetable


@dataclass(frozen=True, slots=True)
class Limited:
    """`policy` never hears of a rung that is deeper than `max_depth`."""

    policy: Policy
    max_depth: Depth

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        return replace(self, policy=self.policy.observe(replace(gap, ladder=self._of(gap.ladder))))

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        return self.policy.plan(self._of(ladder), now)

    def _of(self, ladder: Ladder) -> Ladder:
        return tuple(rung for rung in ladder if rung.depth <= self.max_depth)
