"""How an idle period is spent: what the policy sees, what it is asked, what operators wish.

Keeps the policy, which is a value, and the two wishes an operator may have. It
starts no timer and changes no state; the supervisor does.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.clock import Clock
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Step, Timetable

QUIET_S = 300.0
"""Without a request, before a bake goes on under a policy that never rests."""


class Idleness:
    """rest_wish  an operator wants it at this depth, once nothing waits or runs
    errand     a bake wants it there next, instead of where the policy would; None: no bake
    cause      of the latest plan's steps: "policy" or "bake"
    """

    def __init__(self, policy: Policy, offered: Callable[[], Ladder], clock: Clock) -> None:
        self._offered = offered
        self.rest_wish: Depth | None = None
        self.errand: Depth | None = None
        self.cause = "policy"
        self._disturbed = False
        self._policy, self._clock = policy, clock
        self._since_s: float | None = clock.now()
        self._keep_warm_until_s = 0.0

    @property
    def ladder(self) -> Ladder:
        """As it is offered now."""
        return self._offered()

    def begin_gap(self) -> None:
        """Nothing is left to do."""
        if self._since_s is None:
            self._since_s = self._clock.now()

    def end_gap(self) -> None:
        """Somebody came: the policy learns how long nobody did."""
        if self._since_s is not None:
            gap = Gap(self._clock.now() - self._since_s, self._minute_of_week())
            self._policy = self._policy.observe(gap)
            self._since_s = None
            self._disturbed = True

    def keep_warm(self, seconds: float) -> None:
        """The operator wants it awake for that long."""
        self.rest_wish = None
        self._disturbed = True
        self._keep_warm_until_s = self._clock.now() + seconds

    def wish_rest(self, depth: Depth | None) -> None:
        """The operator wants it at rest; None: it is, and there is nothing to remember."""
        self.rest_wish = depth
        self._keep_warm_until_s = 0.0

    def rests(self) -> None:
        """It goes to rest: whatever was wished before has come true or is overtaken."""
        self.rest_wish = None
        self._disturbed = False

    def plan(self) -> Timetable:
        """The timetable for an idle period that begins now."""
        steps = self._ask_policy()
        if self.errand is None or self.errand not in {rung.depth for rung in self.ladder}:
            self.cause = "policy"
            return steps
        self.cause = "bake"
        # Whoever asked a moment ago may ask on: for them it rests no sooner than it would.
        rests_s = [step.after_s for step in steps if step.depth is not Depth.AWAKE]
        after_s = 0.0 if self.undisturbed else min(rests_s, default=self._keep_warm_s + QUIET_S)
        return (Step(0.0, Depth.AWAKE), Step(after_s, self.errand))

    @property
    def undisturbed(self) -> bool:
        """Nobody has asked for it since it last rested, and nobody wants it kept awake."""
        return not self._disturbed and self._keep_warm_s == 0.0

    @property
    def resting(self) -> Depth:
        """Where the policy would have it in the end; AWAKE: it never rests."""
        return self._ask_policy()[-1].depth

    def _ask_policy(self) -> Timetable:
        now = Now(minute_of_week=self._minute_of_week(), keep_warm_s=self._keep_warm_s)
        return self._policy.plan(self.ladder, now)

    @property
    def _keep_warm_s(self) -> float:
        return max(0.0, self._keep_warm_until_s - self._clock.now())

    def _minute_of_week(self) -> int:
        local = self._clock.utc().astimezone()
        return local.weekday() * 1440 + local.hour * 60 + local.minute
