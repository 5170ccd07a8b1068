"""The policy that the configuration names, and its windows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
import pytest

from appliance.config import Config, Power
from appliance.power.policy import StandingWishes, build_policy, remembering
from policies.guarded import Guarded
from policies.ladder import Depth, Now, Rung, Step, Window
from policies.priced import GIB
from policies.replay import Trace, Visit

AWAKE, PARKED, OFF = Depth.AWAKE, Depth.PARKED, Depth.OFF
START = Step(0.0, AWAKE)
LADDER = (
    Rung(depth=AWAKE, power_w=80.0, vram_bytes=100 * GIB),
    Rung(depth=PARKED, power_w=70.0, wake_s=2.0, wake_j=100.0),
    Rung(depth=OFF, power_w=70.0, wake_s=30.0, wake_j=3000.0),
)


def built(**power: object) -> Guarded:
    return build_policy(msgspec.convert({"power": power}, Config))


@pytest.mark.parametrize(
    ("power", "steps"),
    [
        ({}, (START, Step(300.0, PARKED))),
        ({"max_depth": "off"}, (START, Step(300.0, OFF))),
        ({"policy": "always_on"}, (START,)),
        ({"policy": "breakeven", "lambda_w": 0}, (START, Step(100 / 15, PARKED))),
        ({"policy": "breakeven"}, (START, Step(300 / 15, PARKED))),
        ({"policy": "breakeven", "hold_vram_w_per_gib": 0}, (START, Step(30.0, PARKED))),
        ({"policy": "learned"}, (START, Step(300 / 15, PARKED))),
        ({"policy": "breakeven", "wake_cap_s": 1}, (START, Step(900.0, PARKED))),
        (
            {"policy": "breakeven", "wake_cap_s": 1, "yield_after_s": 60},
            (START, Step(60.0, PARKED)),
        ),
        ({"policy": "breakeven", "max_depth": "light"}, (START,)),
    ],
)
def test_each_setting_does_what_it_says(power: dict[str, object], steps: object) -> None:
    """On one ladder, at the first idle period. 300 J: 100 for the wake and 2 s at 100 W."""
    policy = built(**power)

    assert policy.plan(LADDER, Now()) == steps
    assert policy.name == power.get("policy", "fixed")


def test_fixed_stands_by() -> None:
    """With the same limits and windows as the policy that it may have to replace."""
    policy = built(policy="learned", idle_timeout_s=60, max_depth="parked", rest=["22:00-06:00"])
    night = Now(windows=(Window(10.0, 100.0, warm=False),))

    assert policy.fallback.plan(LADDER, Now()) == (START, Step(60.0, PARKED))
    assert policy.fallback.plan(LADDER, night) == (START, Step(10.0, PARKED))


def test_a_policy_begins_with_what_the_log_knows() -> None:
    """It foretells what it has seen before; its accounts are its own."""
    seen = Trace("log")
    for i in range(200):
        seen.add(Visit(600.0, i % 10080, 5.0, person=True))
    fresh, wise = built(policy="learned"), remembering(built(policy="learned"), seen)

    assert wise.plan(LADDER, Now()) == fresh.plan(LADDER, Now())
    assert wise.policy != fresh.policy
    assert not wise.trouble


@pytest.fixture
def berlin() -> Iterator[None]:
    """The local time of a place where clocks are changed."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def local(*date: int) -> datetime:
    return datetime(*date).astimezone()  # type: ignore[arg-type]  # year, month, day, hour


HOUR = 3600.0


@pytest.mark.usefixtures("berlin")
def test_windows_are_those_of_the_days_ahead() -> None:
    """Working days from a Friday evening on: those of the next two weeks."""
    wishes = StandingWishes(Power(keep_warm=("Mon-Fri 08:00-18:00",)))
    found = wishes.ahead(local(2026, 1, 9, 20))

    assert [window.from_s / HOUR for window in found] == [
        *(60, 84, 108, 132, 156),
        *(228, 252, 276, 300, 324),
    ]
    assert {window.until_s - window.from_s for window in found} == {10 * HOUR}
    assert all(window.warm for window in found)


@pytest.mark.usefixtures("berlin")
def test_a_window_that_has_begun_is_one() -> None:
    """Also one that began last week; lines that touch are one stretch."""
    wishes = StandingWishes(Power(rest=("22:00-24:00", "00:00-06:00")))
    (now, *_) = wishes.ahead(local(2026, 1, 12, 1))  # a Monday

    assert now == Window(-HOUR, 5 * HOUR, warm=False)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("evening", "hours"),
    [((2026, 3, 28, 22), 7), ((2026, 10, 24, 22), 9), ((2026, 6, 6, 22), 8)],
)
def test_windows_follow_the_clock_on_the_wall(evening: tuple[int, ...], hours: int) -> None:
    """From 22:00 to 6:00 are 7, 9 or 8 hours, by how clocks are changed that night."""
    (first, *_) = StandingWishes(Power(rest=("22:00-06:00",))).ahead(local(*evening))

    assert (first.from_s, first.until_s) == (0.0, hours * HOUR)


def test_a_window_that_cannot_be_read_is_refused() -> None:
    """Naming the key and the line."""
    with pytest.raises(msgspec.ValidationError, match=r"power.keep_warm: 'Mo 8-9' is not like"):
        msgspec.convert({"power": {"keep_warm": ["Mo 8-9"]}}, Config)


def test_without_windows_there_is_nothing_to_wish() -> None:
    """At any time."""
    assert StandingWishes(Power()).ahead(datetime.now().astimezone() + timedelta(days=3)) == ()
