"""A policy that fails costs joules, never more: another one takes over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple, Self

from policies.ladder import Depth, Gap, Ladder, Now, Policy, Timetable


class Decided(NamedTuple):
    """trouble  why it is not the policy's own; empty: it is"""

    steps: Timetable
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Guarded:
    """trouble  why `fallback` has taken over for good: `policy` could not take in what it saw"""

    policy: Policy
    fallback: Policy
    trouble: str = ""

    @property
    def name(self) -> str:
        return self.policy.name

    def observe(self, gap: Gap) -> Self:
        fallback = self.fallback.observe(gap)
        if self.trouble:
            return replace(self, fallback=fallback)
        try:
            return replace(self, policy=self.policy.observe(gap), fallback=fallback)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, requests go on
            return replace(self, fallback=fallback, trouble=_said(error))

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        return self.decide(ladder, now).steps

    def decide(self, ladder: Ladder, now: Now) -> Decided:
        """As `plan`, and whose it is."""
        trouble = self.trouble
        if not trouble:
            try:
                steps = self.policy.plan(ladder, now)
                trouble = nonsense(steps, ladder)
            except Exception as error:  # noqa: BLE001 - likewise
                trouble = _said(error)
            else:
                if not trouble:
                    return Decided(steps)
        return Decided(self.fallback.plan(ladder, now), trouble)


def nonsense(steps: Timetable, ladder: Ladder) -> str:
    """What is wrong with a timetable for this ladder; empty: nothing."""
    if not steps or (steps[0].after_s, steps[0].depth) != (0.0, Depth.AWAKE):
        return "it does not begin awake"
    offered = {rung.depth for rung in ladder}
    before_s = 0.0
    for step in steps:
        if not isfinite(step.after_s) or step.after_s < before_s:
            return f"a step after {step.after_s} s follows one after {before_s} s"
        if step.depth not in offered:
            return f"{step.depth!r} is not offered"
        before_s = step.after_s
    return ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
