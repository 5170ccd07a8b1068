"""Standing wishes: be awake at these times, rest at those.

The operator's own word (`Now.keep_warm_s`) goes before a window for rest, that before one
for being awake, and all before the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from policies.ladder import (
    Depth,
    Gap,
    Ladder,
    Now,
    Policy,
    Step,
    Timetable,
    deepest,
    depth_at,
)


@dataclass(frozen=True, slots=True)
class Windows:
    """`policy`, with `Now.windows` and the operator's wish laid over its timetable."""

    policy: Policy

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        return replace(self, policy=self.policy.observe(gap))

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        return over(self.policy.plan(ladder, now), ladder, now)


def over(steps: Timetable, ladder: Ladder, now: Now) -> Timetable:
    """What becomes of a timetable under the wishes of `now`.

    Rest is as deep as the policy would go, or all the way down if it never rests. It is
    awake when a window for that begins: it wakes as much earlier as that takes. Outside the
    windows it does not wake for their sake, unless the policy never rests.
    """
    lowest = max(step.depth for step in steps)
    rests_ever = lowest is not Depth.AWAKE
    if not rests_ever:
        lowest = deepest(ladder).depth
    wake_s = {rung.depth: rung.wake_s for rung in ladder}
    turns_s = {0.0, now.keep_warm_s, *(step.after_s for step in steps)}
    for window in now.windows:
        turns_s |= {window.from_s, window.until_s}
    laid, here = [Step(0.0, Depth.AWAKE)], Depth.AWAKE
    for turn_s in sorted(at_s for at_s in turns_s if at_s >= 0.0):
        wish = _wish(now, turn_s)
        if wish is not None:
            goal = Depth.AWAKE if wish else lowest
        else:
            goal = depth_at(steps, turn_s)
            goal = max(goal, here) if rests_ever else goal
        if goal is here:
            continue
        after_s = turn_s - wake_s[here] if goal is Depth.AWAKE else turn_s
        laid.append(Step(max(laid[-1].after_s, after_s), goal))
        here = goal
    return tuple(laid)


def _wish(now: Now, at_s: float) -> bool | None:
    """To be awake from then on, or to rest; None: as the policy likes."""
    if at_s < now.keep_warm_s:
        return True
    wishes = {window.warm for window in now.windows if window.from_s <= at_s < window.until_s}
    if not wishes:
        return None
    return False not in wishes
