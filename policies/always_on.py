"""Never rest. The baseline, and for people who pay no electricity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from policies.ladder import Depth, Gap, Ladder, Now, Step, Timetable


@dataclass(frozen=True, slots=True)
class AlwaysOn:
    name: str = "always_on"

    def observe(self, gap: Gap) -> Self:  # noqa: ARG002 - what it sees changes nothing
        return self

    def plan(self, ladder: Ladder, now: Now) -> Timetable:  # noqa: ARG002
        return (Step(0.0, Depth.AWAKE),)
