"""Rest when waiting has cost as much as resting would have: the lower envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from policies.envelope import envelope
from policies.ladder import Gap, Ladder, Now, Timetable


@dataclass(frozen=True, slots=True)
class Breakeven:
    """At worst twice the clairvoyant's cost, or what `policies.envelope.bound` says."""

    name: str = "breakeven"

    def observe(self, gap: Gap) -> Self:  # noqa: ARG002 - what it sees changes nothing
        return self

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        return envelope(ladder, now.lambda_w).steps
