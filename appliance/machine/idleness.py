"""How an idle period is spent: what the policy sees, what it is asked, what operators wish.

Keeps the policy, which is a value, and the two wishes an operator may have. It
starts no timer and changes no state; the supervisor does.

A timetable begins where people left off. What nobody waits for, batch requests and the
engine's way up for them, neither ends a gap that a policy sees nor begins a timetable:
after it the old one goes on, at the step that is due by now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from appliance.clock import Clock
from appliance.tariff import minute_of_week
from policies.fixed import Fixed
from policies.guarded import Decided, Guarded
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Step, Timetable, Window

log = logging.getLogger(__name__)

BEHIND_S = 8 * 86400.0
"""Windows that began longer ago decide nothing any more: each comes again within a week."""
QUIET_S = 300.0
"""Without a request, before an errand goes on under a policy that never rests."""


class Goal(NamedTuple):
    """Where an errand wants it next. `cause`: of its moves, for the ledger."""

    depth: Depth
    cause: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One idle period's timetable.

    since_s  its steps count from there, on the boot clock
    cause    of its moves: "policy", "fallback" where the policy failed, or an errand's
    by       whose it is, for people
    """

    steps: Timetable
    since_s: float
    cause: str
    by: str


class Idleness:
    """rest_wish  an operator wants it at this depth, once nothing waits or runs
    windows    the standing wishes for the time from a local time on
    """

    def __init__(self, policy: Policy, offered: Callable[[], Ladder], clock: Clock) -> None:
        self._offered = offered
        self.windows: Callable[[datetime], tuple[Window, ...]] = lambda _: ()
        self.rest_wish: Depth | None = None
        self._errand: Goal | None = None
        self._disturbed = False
        self._policy, self._clock = _guarded(policy), clock
        self._trouble = ""
        self._busy_since_s = clock.now()
        self._busy_s = 0.0
        self._since_s: float | None = clock.now()
        self._begun_s: float | None = clock.now()
        """Of the timetable in force; None: the next idle period begins one of its own."""
        self._keep_warm_until_s = 0.0

    @property
    def ladder(self) -> Ladder:
        """As it is offered now."""
        return self._offered()

    @property
    def policy(self) -> str:
        return self._policy.name

    def begin_gap(self) -> None:
        """Nothing is left to do."""
        if self._since_s is None:
            self._since_s = self._clock.now()
            self._busy_s = self._since_s - self._busy_since_s

    def end_gap(self, depth: Depth, *, nobody: bool = False) -> None:
        """Somebody came, and found it there: the policy learns how long nobody did.

        nobody  it was no person
        """
        if nobody:
            return
        self._begun_s = None
        if self._since_s is not None:
            self._busy_since_s = self._clock.now()
            idle_s, now = self._busy_since_s - self._since_s, self._now(self._since_s)
            self._policy = self._policy.observe(Gap(idle_s, depth, self.ladder, now))
            self._since_s = None
            self._disturbed = True

    def keep_warm(self, seconds: float) -> None:
        """The operator wants it awake for that long; a longer wish from before stays."""
        self.rest_wish = None
        self._begun_s = None
        self._disturbed = True
        self._keep_warm_until_s = max(self._keep_warm_until_s, self._clock.now() + seconds)

    def wish_rest(self, depth: Depth | None) -> None:
        """The operator wants it at rest; None: it is, and there is nothing to remember."""
        self.rest_wish = depth
        self._keep_warm_until_s = 0.0

    def rests(self) -> None:
        """It goes to rest: whatever was wished before has come true or is overtaken."""
        self.rest_wish = None
        self._disturbed = False
        self._begun_s = self._begin_s

    def lead(self, goal: Goal | None) -> None:
        """An errand wants it there next, instead of where the policy would; None: no errand."""
        self._errand = goal
        self._begun_s = None

    def plan(self) -> Plan:
        """The timetable for an idle period that begins now, or goes on."""
        if self._begun_s is None:
            self._begun_s = self._clock.now()
        (steps, trouble), goal = self._ask_policy(), self._errand
        if goal is None or goal.depth not in {rung.depth for rung in self.ladder}:
            if trouble:
                by = f"policy fixed, because {self.policy} failed: {trouble}"
                return Plan(steps, self._begun_s, "fallback", by)
            return Plan(steps, self._begun_s, "policy", f"policy {self.policy}")
        # Whoever asked a moment ago may ask on: for them it rests no sooner than it would.
        rests_s = [step.after_s for step in steps if step.depth is not Depth.AWAKE]
        after_s = 0.0 if self.undisturbed else min(rests_s, default=self._keep_warm_s + QUIET_S)
        led = (Step(0.0, Depth.AWAKE), Step(after_s, goal.depth))
        return Plan(led, self._begun_s, goal.cause, goal.cause)

    @property
    def timetable(self) -> Timetable:
        """The policy's, as of now."""
        return self._ask_policy().steps

    @property
    def undisturbed(self) -> bool:
        """Nobody has asked for it since it last rested, and nobody wants it kept awake."""
        return not self._disturbed and self._keep_warm_until_s <= self._clock.now()

    @property
    def resting(self) -> Depth:
        """Where the policy would have it in the end; AWAKE: it never rests."""
        return self._ask_policy().steps[-1].depth

    def _ask_policy(self) -> Decided:
        """As it was when the timetable in force began."""
        decided = self._policy.decide(self.ladder, self._now(self._begin_s))
        if decided.trouble and decided.trouble != self._trouble:
            log.error("policy %s failed, fixed takes over: %s", self.policy, decided.trouble)
        self._trouble = decided.trouble
        return decided

    def _now(self, at_s: float) -> Now:
        local = self._local(at_s)
        return Now(
            minute_of_week=minute_of_week(local),
            busy_s=self._busy_s,
            keep_warm_s=max(0.0, self._keep_warm_until_s - at_s),
            windows=self._windows(at_s),
        )

    def _windows(self, at_s: float) -> tuple[Window, ...]:
        """Those of an idle period that began then, however long ago, and of the next days."""
        first_s = max(at_s, self._clock.now() - BEHIND_S)
        later_s = first_s - at_s
        return tuple(
            Window(window.from_s + later_s, window.until_s + later_s, warm=window.warm)
            for window in self.windows(self._local(first_s))
        )

    @property
    def _begin_s(self) -> float:
        return self._clock.now() if self._begun_s is None else self._begun_s

    @property
    def _keep_warm_s(self) -> float:
        return max(0.0, self._keep_warm_until_s - self._begin_s)

    def _local(self, at_s: float) -> datetime:
        ago = timedelta(seconds=self._clock.now() - at_s)
        return (self._clock.utc() - ago).astimezone()


def _guarded(policy: Policy) -> Guarded:
    if isinstance(policy, Guarded):
        return policy
    return Guarded(policy, Fixed(idle_timeout_s=QUIET_S, max_depth=None))
