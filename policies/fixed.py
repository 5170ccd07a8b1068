"""Rest after a constant idle timeout, straight to one depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Step, Timetable, deepest


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """idle_timeout_s  idle time after which it rests
    max_depth       as deep as the ladder offers, but no deeper than this; None: as little
                    deep as leaves the GPU to others
    """

    idle_timeout_s: float
    max_depth: Depth | None = Depth.OFF
    name: str = "fixed"

    def observe(self, gap: Gap) -> Self:  # noqa: ARG002 - what it sees changes nothing
        return self

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        rest = self._depth(ladder)
        if rest is Depth.AWAKE:
            return (Step(0.0, Depth.AWAKE),)
        after_s = max(self.idle_timeout_s, now.keep_warm_s)
        return (Step(0.0, Depth.AWAKE), Step(after_s, rest))

    def _depth(self, ladder: Ladder) -> Depth:
        if self.max_depth is not None:
            return deepest(ladder, self.max_depth).depth
        leaving = [rung.depth for rung in ladder if rung.depth >= Depth.PARKED]
        return min(leaving, default=deepest(ladder).depth)
