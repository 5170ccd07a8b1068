"""What was decided lately, and why: for `wattnap why`. Kept in memory only.

What came of it, moves with their seconds and joules, is in the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import Struct

from appliance import lifecycle as lc
from appliance.clock import Clock, iso
from appliance.idleness import Plan
from appliance.ledger import word
from policies.ladder import Depth

KEPT = 100

BECAUSE = {
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


class Decisions:
    """The latest KEPT, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[Decision] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._kept)

    def saw(
        self,
        event: lc.Event,
        effects: Iterable[lc.Effect],
        *,
        goal: Depth,
        load: lc.Load,
        cause: str,
        failure: str | None,
    ) -> None:
        """The machine took `event` thus; `goal`: where it is going."""
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
            self.note(did, cause, _why(event, load, cause, failure))

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


def _why(event: lc.Event, load: lc.Load, cause: str, failure: str | None) -> str:
    match event:
        case lc.Arrived(why=why) if why:
            return why
        case lc.Broke():
            return f"it failed: {failure}" if failure else "it failed"
    if cause == "policy":
        return "its timetable says so"
    if cause in BECAUSE:
        return BECAUSE[cause]
    many = "1 request waits" if load.waiting == 1 else f"{load.waiting} requests wait"
    return many if load.waiting else "it had failed"
