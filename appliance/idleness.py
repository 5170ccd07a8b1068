"""How an idle period is spent: what the policy sees, what it is asked, what operators wish.

Keeps the policy, which is a value, and the two wishes an operator may have. It
starts no timer and changes no state; the supervisor does.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.clock import Clock
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Timetable


class Idleness:
    """rest_wish  an operator wants it at this depth, once nothing waits or runs"""

    def __init__(self, policy: Policy, offered: Callable[[], Ladder], clock: Clock) -> None:
        self._offered = offered
        self.rest_wish: Depth | None = None
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

    def keep_warm(self, seconds: float) -> None:
        """The operator wants it awake for that long."""
        self.rest_wish = None
        self._keep_warm_until_s = self._clock.now() + seconds

    def wish_rest(self, depth: Depth | None) -> None:
        """The operator wants it at rest; None: it is, and there is nothing to remember."""
        self.rest_wish = depth
        self._keep_warm_until_s = 0.0

    def plan(self) -> Timetable:
        """The timetable for an idle period that begins now."""
        now = Now(
            minute_of_week=self._minute_of_week(),
            keep_warm_s=max(0.0, self._keep_warm_until_s - self._clock.now()),
        )
        return self._policy.plan(self.ladder, now)

    @property
    def resting(self) -> Depth:
        """Where the policy would have it in the end; AWAKE: it never rests."""
        return self.plan()[-1].depth

    def _minute_of_week(self) -> int:
        local = self._clock.utc().astimezone()
        return local.weekday() * 1440 + local.hour * 60 + local.minute
