"""The policy that the configuration names, and what is laid over it.

Part of the composition root, beside `app`: it names concrete policies.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance.config import Config, Power
from appliance.tariff import stretches
from policies.always_on import AlwaysOn
from policies.breakeven import Breakeven
from policies.fixed import Fixed
from policies.guarded import Guarded
from policies.ladder import Depth, Gap, Now, Policy, Window
from policies.learned import Learned
from policies.limited import Limited
from policies.priced import Priced, Prices
from policies.replay import Trace
from policies.sparing import Sparing
from policies.windows import Windows
from policies.yielding import Yielding

AHEAD_S = 16 * 86400.0
"""A timetable knows the windows of so much time; of it, what is gone is at most half."""

REMEMBERED = 2000
"""Requests of the log from which a policy learns when the daemon starts."""


def build_policy(config: Config) -> Guarded:
    """With `fixed` to take over, should it fail."""
    power = config.power
    fixed = Fixed(
        idle_timeout_s=power.idle_timeout_s,
        max_depth=None if power.max_depth == "auto" else Depth[power.max_depth.upper()],
    )
    core: Policy
    match power.policy:
        case "always_on":
            core = AlwaysOn()
        case "fixed":
            core = fixed
        case "breakeven":
            core = _priced(Breakeven(), power)
        case "learned":
            core = _priced(Learned(), power)
    return Guarded(_limited(Windows(core), power), _limited(Windows(fixed), power))


def remembering(policy: Guarded, seen: Trace) -> Guarded:
    """It has seen that, too. Prices of that time are not known: only how long nobody came."""
    for idle_s, minute, busy_s, _ in seen:
        now = Now(minute_of_week=minute, busy_s=busy_s)
        policy = policy.observe(Gap(idle_s, now=now))
    return policy


def _priced(policy: Policy, power: Power) -> Policy:
    prices = Prices(
        lambda_w=power.lambda_w,
        vram_w_per_gib=power.hold_vram_w_per_gib,
        ram_w_per_gib=power.hold_ram_w_per_gib,
        wake_cap_s=power.wake_cap_s or None,
    )
    spared = Sparing(
        Priced(policy, prices),
        min_awake_s=power.min_awake_s,
        max_wakes_per_hour=power.max_wakes_per_hour,
    )
    return Yielding(spared, power.yield_after_s)


def _limited(policy: Policy, power: Power) -> Policy:
    if power.max_depth == "auto":
        return policy
    return Limited(policy, Depth[power.max_depth.upper()])


class StandingWishes:
    """The windows of the configuration, for any week."""

    def __init__(self, power: Power) -> None:
        self._stretches = [
            (first, end, warm)
            for lines, warm in ((power.keep_warm, True), (power.rest, False))
            for first, end in stretches(lines)
        ]

    def ahead(self, local: datetime) -> tuple[Window, ...]:
        """Those of the next days, and those that have begun. By the clock on the wall, so that
        a night on which that is changed is an hour longer or shorter."""
        here = local.replace(tzinfo=None)
        monday = datetime(here.year, here.month, here.day) - timedelta(days=here.weekday())  # noqa: DTZ001 - on the wall
        found = []
        for week in range(4):
            for first, end, warm in self._stretches:
                from_s, until_s = (
                    (monday + timedelta(weeks=week, minutes=minute)).astimezone() - local
                    for minute in (first, end)
                )
                if until_s > timedelta() and from_s.total_seconds() < AHEAD_S:
                    found.append(Window(from_s.total_seconds(), until_s.total_seconds(), warm=warm))
        return tuple(found)
