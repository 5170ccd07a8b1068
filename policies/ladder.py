"""The vocabulary of rest: depths, what each one costs, and timetables.

Pure values. Nothing here reads a clock, a file or a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self


class Depth(IntEnum):
    """How far down an engine rests. Larger is deeper and slower to wake."""

    AWAKE = 0  # weights on the GPU, first token at once
    LIGHT = 1  # engine asleep; its CUDA context lives, its memory is free
    PARKED = 2  # engine checkpointed off the GPU; the process waits in RAM
    STOPPED = 3  # no engine; a warm host can fork one
    OFF = 4  # nothing; the next request is a start from scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One depth with its price on one machine, for one engine on one device.

    power_w           mean draw while resting here
    enter_s, enter_j  from the order to rest until it rests, and the energy of that
    wake_s, wake_j    from the order to wake until the engine can serve, likewise
    vram_bytes        GPU memory held meanwhile
    ram_bytes         host memory held meanwhile
    source            "built-in" until a calibration has measured it here

    Joules are those above the deepest rung's power.
    """

    depth: Depth
    power_w: float
    enter_s: float = 0.0
    enter_j: float = 0.0
    wake_s: float = 0.0
    wake_j: float = 0.0
    vram_bytes: int = 0
    ram_bytes: int = 0
    source: str = "built-in"

    def __post_init__(self) -> None:
        costs = (self.power_w, self.enter_s, self.enter_j, self.wake_s, self.wake_j)
        if min(costs) < 0 or min(self.vram_bytes, self.ram_bytes) < 0:
            raise ValueError(f"a rung cannot have a negative cost: {self}")


Ladder = tuple[Rung, ...]
"""The offered rungs, shallowest first. The first is always AWAKE."""


@dataclass(frozen=True, slots=True)
class Step:
    """Be at `depth` once the engine has been idle for `after_s` seconds."""

    after_s: float
    depth: Depth


Timetable = tuple[Step, ...]
"""Steps in order of time. The first is always (0, AWAKE)."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time for which there is a standing wish.

    from_s, until_s  since the idle period began; from_s may lie before it
    warm             true: be awake; false: rest
    """

    from_s: float
    until_s: float
    warm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What the appliance knows as an idle period begins, as plain numbers.

    minute_of_week   local time: Monday 00:00 is 0, at most 10 079
    lambda_w         watts that a waiting person is worth; 0 for batch
    busy_s           how long it has served without a break until now
    keep_warm_s      the operator wants it awake for this much longer; 0: no wish
    windows          standing wishes for the time ahead
    wake_cap_s       longest wake each door accepts; None: any
    batch_waiting    deferred requests that wait for an awake engine
    """

    minute_of_week: int = 0
    lambda_w: float = 100.0
    busy_s: float = 0.0
    keep_warm_s: float = 0.0
    windows: tuple[Window, ...] = ()
    wake_cap_s: float | None = None
    batch_waiting: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """One idle period, from the last completion to the next arrival.

    depth        where the arrival found it
    ladder, now  what a policy was asked with as it began; no ladder: nothing was asked
    """

    idle_s: float
    depth: Depth = Depth.AWAKE
    ladder: Ladder = ()
    now: Now = Now()


class Policy(Protocol):
    """Decides how one idle period will be spent, at the moment it begins.

    Immutable: the same calls in the same order give the same timetables.
    """

    @property
    def name(self) -> str:
        """As it is configured."""
        ...

    def observe(self, gap: Gap) -> Self:
        """Return the policy that has also seen `gap`. O(1)."""
        ...

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        """Return the timetable for an idle period that starts now."""
        ...


def depth_at(steps: Timetable, idle_s: float) -> Depth:
    """Where a timetable sends it from then on."""
    due = [step.depth for step in steps if step.after_s <= idle_s]
    return due[-1]


def deepest(ladder: Sequence[Rung], allowed: Depth = Depth.OFF) -> Rung:
    """The deepest offered rung that is no deeper than `allowed`."""
    return max((r for r in ladder if r.depth <= allowed), key=lambda r: r.depth)


def next_edge(here: Depth, goal: Depth) -> Depth:
    """The first atomic step on the way down from `here` to `goal`.

    LIGHT lies on the way to PARKED, because only a sleeping engine is
    checkpointed. STOPPED lies on the way to OFF only where a warm host is
    running; whoever offers no STOPPED goes to OFF at once, so both are one edge
    from any depth above.
    """
    if goal is Depth.PARKED and here is Depth.AWAKE:
        return Depth.LIGHT
    return goal
