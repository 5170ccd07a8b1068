"""When each meter is to be looked at next: as its cadence says, and when something changed.

Pure: told the time. The rate under load is never above the cadence's for long: a look at
an NVML counter is 5 ms of a core's work, and requests may come and go at any rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.energy.attribution import TAIL_S
from appliance.energy.timeline import Stretch
from drivers.protocols import Meter
from policies.ladder import Depth

BURST = 3
"""So many looks may be made out of turn, if none was for as long."""
TOGETHER = 0.25
"""Looks that are due within that share of their interval are made at once."""


@dataclass(slots=True)
class _Turn:
    """looked_s   when it was last looked at
    allowed_s  from then on it may be looked at out of turn
    """

    meter: Meter
    looked_s: float = -math.inf
    allowed_s: float = -math.inf


class Rounds:
    """All meters of one engine."""

    def __init__(self, meters: Iterable[Meter], *, late_s: float = 0.0) -> None:
        """`late_s`: so long after something, a look shows all of it."""
        self._turns = {meter.name: _Turn(meter) for meter in meters}
        self._late_s = late_s
        self._turned_s = self._edge_s = -math.inf

    @property
    def names(self) -> list[str]:
        return list(self._turns)

    def unseen(self, doing: Stretch) -> bool:
        """Of what was before this, not all has been seen yet."""
        return any(turn.looked_s < self._seen_s(doing) for turn in self._turns.values())

    def turned(self, now_s: float) -> None:
        """The engine does something else: its joules must be told from those before."""
        self._turned_s = now_s

    def edge(self, now_s: float) -> None:
        """Requests began, or none is left."""
        self._edge_s = now_s

    def due_s(self, doing: Stretch) -> float:
        """When the next look is due; math.inf: none is."""
        each = (self._due_s(turn, doing) for turn in self._turns.values())
        return min(each, default=math.inf)

    def due(self, doing: Stretch, now_s: float) -> list[str]:
        """Which meters are to be looked at now."""
        if self.due_s(doing) > now_s:
            return []
        return [
            name
            for name, turn in self._turns.items()
            if self._due_s(turn, doing)
            <= now_s + TOGETHER * interval_s(turn.meter, doing, turn.looked_s)
        ]

    def looked(self, names: Iterable[str], now_s: float) -> None:
        """They were; or tried."""
        for name in names:
            turn = self._turns[name]
            turn.looked_s = now_s
            each_s = 1 / turn.meter.cadence.busy_hz
            turn.allowed_s = max(turn.allowed_s, now_s - BURST * each_s) + each_s

    def _due_s(self, turn: _Turn, doing: Stretch) -> float:
        seen_s = self._seen_s(doing)
        if turn.looked_s < seen_s:
            if turn.meter.source == "integral":
                # What the sensor says of the end of that is no straight line.
                return min(
                    seen_s, max(turn.looked_s + 1 / turn.meter.cadence.moving_hz, self._turned_s)
                )
            return seen_s
        if at_rest(doing) and turn.meter.wakes_device:
            return math.inf
        due_s = turn.looked_s + interval_s(turn.meter, doing, turn.looked_s)
        for edge_s in self._edges(turn.meter):
            if turn.looked_s < edge_s:
                due_s = min(due_s, max(edge_s, turn.allowed_s))
        return due_s

    def _seen_s(self, doing: Stretch) -> float:
        """A look from then on has seen all of what was before."""
        # At rest it is the last look for long: it is to see the end of it, too.
        return self._turned_s + (self._late_s if at_rest(doing) else 0.0)

    def _edges(self, meter: Meter) -> tuple[float, ...]:
        """When power begins to change; and when what it says of that stops to: between two
        looks the sum of power is a straight line."""
        if meter.source != "integral":
            return (self._edge_s,)
        later_s = meter.window_s
        return self._edge_s, self._edge_s + later_s, self._turned_s + later_s


def interval_s(meter: Meter, doing: Stretch, looked_s: float) -> float:
    """From that look to the next, while that is done.

    The last soon after another comes when a floor can be learned: all from there to the next
    is nothing but that.
    """
    cadence = meter.cadence
    if doing.line != "idle":
        return 1 / cadence.moving_hz
    if doing.busy or looked_s - meter.window_s < doing.start_s + TAIL_S:
        return 1 / cadence.busy_hz
    return cadence.idle_s if doing.depth is Depth.AWAKE else cadence.rest_s


def at_rest(doing: Stretch) -> bool:
    """So deep that a look may wake the device, or keep it from sleep."""
    return doing.line == "idle" and doing.depth >= Depth.STOPPED
