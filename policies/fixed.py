"""Rest after a constant idle timeout, straight to one depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Step, Timetable, deepest


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """idle_timeout_s  idle time after which it rests
    max_depth       as deep as the ladder offers, but no deeper than this
    """

    idle_timeout_s: float
    max_depth: Depth = Depth.OFF
    name: str = "fixed"

    def observe(self, gap: Gap) -> Self:  # noqa: ARG002 - what it sees changes nothing
        return self

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        rest = deepest(ladder, self.max_depth).depth
        if rest is Depth.AWAKE:
            return (Step(0.0, Depth.AWAKE),)
        after_s = max(self.idle_timeout_s, now.keep_warm_s)
        return (Step(0.0, Depth.AWAKE), Step(after_s, rest))
