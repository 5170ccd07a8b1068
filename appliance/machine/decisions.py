"""What was decided lately, and why: for `wattnap why`. Kept in memory only.

What came of it, moves with their seconds and joules, is in the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

from appliance.clock import Clock, iso
from appliance.machine import lifecycle as lc
from appliance.machine.idleness import Plan
from appliance.storage.ledger import word
from policies.ladder import Depth

KEPT = 100

BECAUSE = {
    "fallback": "the policy failed, and fixed has taken over",
    "policy": "its timetable says so",
    "operator": "the operator's word",
    "bake": "the bake",
    "calibrate": "the calibration",
    "stop": "the daemon stops",
}


class Decision(Struct, frozen=True):
    """`at`: in UTC. `did` and `why` are words for people; `cause` as in the ledger."""

    at: str
    did: str
    cause: str
    why: str


class Because(NamedTuple):
    """What the machine was told, and what stood beside it.

    cause    as in the ledger
    waiting  requests
    failure  the engine's latest, if it has not woken since
    """

    event: lc.Event
    cause: str
    waiting: int
    failure: str

    @property
    def words(self) -> str:
        match self.event:
            case lc.Arrived(why=why) if why:
                return why
            case lc.Broke():
                return f"it failed: {self.failure}" if self.failure else "it failed"
        if self.cause in BECAUSE:
            return BECAUSE[self.cause]
        if not self.waiting:
            return "it had failed"
        return "1 request waits" if self.waiting == 1 else f"{self.waiting} requests wait"


class Decisions:
    """The latest KEPT, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[Decision] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._kept)

    def saw(self, because: Because, effects: Iterable[lc.Effect], goal: Depth) -> None:
        """The machine has decided so; `goal`: where it is going."""
        for effect in effects:
            match effect:
                case lc.Wake(depth=depth):
                    did = f"wakes it from {word(depth)}"
                case lc.Rest(depth=depth) if depth is goal:
                    did = f"lets it rest, {word(depth)}"
                case lc.Rest(depth=depth):
                    did = f"lets it rest, {word(depth)} on the way to {word(goal)}"
                case lc.BackOff():
                    did = "starts it again after a pause"
                case _:
                    continue
            self.note(did, because.cause, because.words)

    def planned(self, plan: Plan) -> None:
        """An idle period begins, or goes on, with that."""
        steps = [f"{word(s.depth)} after {s.after_s:.0f} s" for s in plan.steps if s.after_s > 0]
        deep = [word(s.depth) for s in plan.steps if s.after_s == 0 and s.depth is not Depth.AWAKE]
        told = ", ".join([*(f"{depth} at once" for depth in deep), *steps])
        self.note(f"plans to rest: {told}" if told else "plans to stay awake", plan.cause, plan.by)

    def note(self, did: str, cause: str, why: str) -> None:
        at = iso(self._clock.utc())
        last = self._kept[-1] if self._kept else None
        if last is not None and (last.did, last.cause, last.why) == (did, cause, why):
            self._kept.pop()  # a timetable that begins anew with each answer says no more
        self._kept.append(Decision(at, did, cause, why))
