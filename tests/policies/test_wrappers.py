"""What is laid over a policy: limits, prices, yielding, sparing, windows, a guard."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.always_on import AlwaysOn
from policies.breakeven import Breakeven
from policies.fixed import Fixed
from policies.guarded import Guarded, nonsense
from policies.ladder import Depth, Gap, Ladder, Now, Policy, Rung, Step, Timetable, Window
from policies.limited import Limited
from policies.priced import GIB, Priced, Prices
from policies.sparing import Sparing
from policies.windows import Windows
from policies.yielding import Yielding

AWAKE, LIGHT, PARKED, STOPPED, OFF = Depth
START = Step(0.0, AWAKE)
LADDER = (
    Rung(depth=AWAKE, power_w=80.0, vram_bytes=100 * GIB),
    Rung(depth=LIGHT, power_w=80.0, wake_s=1.0, wake_j=50.0, vram_bytes=2 * GIB),
    Rung(depth=PARKED, power_w=80.0, wake_s=2.0, wake_j=100.0, ram_bytes=10 * GIB),
    Rung(depth=OFF, power_w=80.0, enter_s=1.0, wake_s=30.0, wake_j=3000.0),
)


@dataclass(frozen=True)
class Says:
    """A policy that says always the same, and keeps what it saw."""

    steps: Any  # nonsense, too
    saw: tuple[Gap, ...] = ()
    asked: list[tuple[Ladder, Now]] = field(default_factory=list)
    name: str = "says"

    def observe(self, gap: Gap) -> Self:
        if gap.idle_s == 13.0:
            raise ZeroDivisionError("13 is unlucky")
        return replace(self, saw=(*self.saw, gap))

    def plan(self, ladder: Ladder, now: Now) -> Timetable:
        self.asked.append((ladder, now))
        if self.steps is None:
            raise ValueError("nothing comes to mind")
        return self.steps  # type: ignore[no-any-return]


DOWN = Says((START, Step(10.0, LIGHT), Step(2000.0, OFF)))


@pytest.mark.parametrize(
    "wrapped",
    [
        Limited(DOWN, OFF),
        Priced(DOWN),
        Sparing(DOWN),
        Yielding(DOWN),
        Windows(DOWN),
        Guarded(DOWN, AlwaysOn()),
    ],
)
def test_each_goes_by_the_name_of_what_it_holds(wrapped: Any) -> None:
    """And hands on what was seen."""
    after = wrapped.observe(Gap(5.0))

    assert wrapped.name == "says"
    assert [gap.idle_s for gap in after.policy.saw] == [5.0]
    assert wrapped.policy.saw == ()


def test_a_limited_policy_hears_of_no_deeper_rung() -> None:
    """Neither when it is asked nor when it is told."""
    policy = Limited(Says((START,)), PARKED)
    policy.plan(LADDER, Now())
    after = policy.observe(Gap(1.0, AWAKE, LADDER))

    assert isinstance(after.policy, Says)
    assert [rung.depth for rung in after.policy.asked[0][0]] == [AWAKE, LIGHT, PARKED]
    assert [rung.depth for rung in after.policy.saw[0].ladder] == [AWAKE, LIGHT, PARKED]


def test_held_memory_has_its_price() -> None:
    """100 GiB of VRAM at 0.05 W are 5 W: 50 J are paid after 10.2 s without them."""
    prices = Prices(lambda_w=0.0)
    steps = Priced(Breakeven(), prices).plan(LADDER, Now(lambda_w=100.0))

    assert steps[1].depth is LIGHT
    assert steps[1].after_s == pytest.approx(50 / (98 * 0.05))
    assert [step.depth for step in steps] == [AWAKE, LIGHT, OFF]


def test_a_rung_that_wakes_too_slowly_is_not_considered() -> None:
    """Whoever comes while it settles waits for that, too."""
    policy = Priced(Says((START,)))
    policy.plan(LADDER, Now(wake_cap_s=30.5))
    policy.plan(LADDER, Now(wake_cap_s=31.0))
    replace(policy, prices=Prices(wake_cap_s=1.5)).plan(LADDER, Now(wake_cap_s=31.0))

    assert isinstance(policy.policy, Says)
    assert [len(ladder) for ladder, _ in policy.policy.asked] == [3, 4, 2]


def test_the_way_down_leads_past_no_rung_that_wakes_too_slowly() -> None:
    """Somebody might arrive just as it settles there, on its way to a faster one."""
    slow = replace(LADDER[1], enter_s=20.0)
    policy = Priced(Says((START,)))
    policy.plan((LADDER[0], slow, *LADDER[2:]), Now(wake_cap_s=10.0))

    assert isinstance(policy.policy, Says)
    assert [len(ladder) for ladder, _ in policy.policy.asked] == [1]


def test_it_leaves_the_gpu_in_time() -> None:
    """To the rung that wakes soonest; what the policy wanted later is later still."""
    assert Yielding(DOWN, 900.0).plan(LADDER, Now()) == (
        START,
        Step(10.0, LIGHT),
        Step(900.0, PARKED),
        Step(2000.0, OFF),
    )
    assert Yielding(AlwaysOn(), 900.0).plan(LADDER, Now()) == (START, Step(900.0, PARKED))
    assert Yielding(DOWN, 2000.0).plan(LADDER, Now()) == DOWN.steps
    assert Yielding(DOWN, 900.0).plan(LADDER[:2], Now()) == DOWN.steps


def seen(policy: Sparing, *gaps: tuple[float, Depth]) -> Sparing:
    for idle_s, depth in gaps:
        policy = policy.observe(Gap(idle_s, depth, now=Now(busy_s=10.0)))
    return policy


def test_once_awake_it_stays_so_for_a_while() -> None:
    """From the wake on, requests included; a gap without a rest does not begin it anew."""
    policy = Sparing(Fixed(idle_timeout_s=5.0), min_awake_s=60.0)
    fresh = seen(policy, (300.0, OFF))
    later = seen(fresh, (20.0, AWAKE))

    assert policy.plan(LADDER, Now(busy_s=10.0))[-1] == Step(5.0, OFF)
    assert fresh.plan(LADDER, Now(busy_s=10.0))[-1] == Step(50.0, OFF)
    assert later.plan(LADDER, Now(busy_s=10.0))[-1] == Step(20.0, OFF)
    assert later.plan(LADDER, Now(busy_s=55.0)) == (START, Step(5.0, OFF))


def test_so_many_wakes_an_hour() -> None:
    """After the last of them it stays awake until the first is an hour ago."""
    policy = Sparing(Fixed(idle_timeout_s=5.0), max_wakes_per_hour=3)
    two = seen(policy, (100.0, OFF), (100.0, OFF))
    three = seen(two, (100.0, OFF))
    four = seen(three, (5000.0, AWAKE))

    assert two.plan(LADDER, Now())[-1] == Step(5.0, OFF)
    assert three.plan(LADDER, Now())[-1] == Step(3600.0 - 220.0, OFF)
    assert four.plan(LADDER, Now())[-1] == Step(5.0, OFF)


def test_sparing_moves_a_timetable_without_changing_where_it_leads() -> None:
    """Of several steps that were due, the last one; steps up stay up."""
    nervous = Says((START, Step(1.0, LIGHT), Step(2.0, PARKED), Step(90.0, OFF)))
    early = Says((START, Step(1.0, LIGHT), Step(2.0, AWAKE), Step(90.0, OFF)))
    spent = Sparing(nervous, min_awake_s=60.0).observe(Gap(9.0, OFF))
    risen = Sparing(early, min_awake_s=60.0).observe(Gap(9.0, OFF))

    assert spent.plan(LADDER, Now()) == (START, Step(60.0, PARKED), Step(90.0, OFF))
    assert risen.plan(LADDER, Now()) == (START, Step(90.0, OFF))


HOUR = 3600.0
NIGHT = Window(0.0, 8 * HOUR, warm=False)
DAY = Window(8 * HOUR, 10 * HOUR, warm=True)
FIVE_MINUTES = Windows(Fixed(idle_timeout_s=300.0))


def test_a_window_for_rest_rests_at_once() -> None:
    """As deep as it may; afterwards it is not woken for that."""
    assert FIVE_MINUTES.plan(LADDER, Now(windows=(NIGHT,))) == (START, Step(0.0, OFF))
    assert FIVE_MINUTES.plan(LADDER, Now(windows=(Window(100.0, 200.0, warm=False),))) == (
        START,
        Step(100.0, OFF),
    )


def test_it_is_awake_when_the_window_for_that_begins() -> None:
    """Earlier by what the wake takes; when the window ends, the policy has its way again."""
    assert FIVE_MINUTES.plan(LADDER, Now(windows=(NIGHT, DAY))) == (
        START,
        Step(0.0, OFF),
        Step(8 * HOUR - 30.0, AWAKE),
        Step(10 * HOUR, OFF),
    )


def test_a_window_for_being_awake_goes_before_the_policy() -> None:
    """One that began already, and one that begins before the policy would have rested."""
    assert FIVE_MINUTES.plan(LADDER, Now(windows=(Window(-60.0, 900.0, warm=True),))) == (
        START,
        Step(900.0, OFF),
    )
    assert FIVE_MINUTES.plan(LADDER, Now(windows=(Window(299.0, 900.0, warm=True),))) == (
        START,
        Step(900.0, OFF),
    )


def test_rest_goes_before_being_awake_and_the_operator_before_both() -> None:
    """The order of DESIGN: the operator's word, rest, awake, the policy."""
    both = (Window(0.0, HOUR, warm=True), Window(600.0, HOUR, warm=False))

    assert FIVE_MINUTES.plan(LADDER, Now(windows=both)) == (START, Step(600.0, OFF))
    assert FIVE_MINUTES.plan(LADDER, Now(windows=both, keep_warm_s=1000.0)) == (
        START,
        Step(1000.0, OFF),
    )


def test_who_never_rests_is_woken_after_a_window_for_rest() -> None:
    """`always_on` means it, outside the windows."""
    assert Windows(AlwaysOn()).plan(LADDER, Now(windows=(NIGHT,))) == (
        START,
        Step(0.0, OFF),
        Step(8 * HOUR - 30.0, AWAKE),
    )


@given(
    st.lists(st.tuples(st.floats(-1e4, 1e5), st.floats(1.0, 1e5), st.booleans()), max_size=6),
    st.sampled_from([0.0, 50.0, 5000.0]),
    st.sampled_from([Fixed(idle_timeout_s=300.0), AlwaysOn(), DOWN]),
)
def test_whatever_the_windows_the_timetable_is_sound(
    windows: list[tuple[float, float, bool]], keep_warm_s: float, policy: Policy
) -> None:
    """Begins awake, goes forward, and to rungs that are offered."""
    now = Now(
        windows=tuple(Window(begin_s, begin_s + long_s, warm) for begin_s, long_s, warm in windows),
        keep_warm_s=keep_warm_s,
    )
    steps = Windows(policy).plan(LADDER, now)

    assert nonsense(steps, LADDER) == ""
    assert all(a.depth is not b.depth for a, b in pairwise(steps))


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        (None, "ValueError: nothing comes to mind"),
        ((), "it does not begin awake"),
        ((Step(0.0, OFF),), "it does not begin awake"),
        ((Step(5.0, AWAKE),), "it does not begin awake"),
        ((START, Step(float("nan"), OFF)), "a step after nan s follows one after 0.0 s"),
        ((START, Step(float("inf"), OFF)), "a step after inf s follows one after 0.0 s"),
        ((START, Step(9.0, OFF), Step(8.0, OFF)), "a step after 8.0 s follows one after 9.0 s"),
        ((START, Step(9.0, STOPPED)), "<Depth.STOPPED: 3> is not offered"),
        (42, "TypeError: 'int' object is not subscriptable"),
    ],
)
def test_a_policy_that_talks_nonsense_is_not_listened_to(said: Any, trouble: str) -> None:
    """The other one plans instead, and says why."""
    decided = Guarded(Says(said), Fixed(idle_timeout_s=300.0)).decide(LADDER, Now())

    assert decided == ((START, Step(300.0, OFF)), trouble)


def test_a_policy_that_makes_sense_is() -> None:
    """Without a word about it."""
    guarded = Guarded(DOWN, Fixed(idle_timeout_s=300.0))

    assert guarded.decide(LADDER, Now()) == (DOWN.steps, "")
    assert guarded.plan(LADDER, Now()) == DOWN.steps


def test_a_policy_that_cannot_take_in_what_it_saw_is_given_up() -> None:
    """It would not know any more what it is talking about; the other one goes on seeing."""
    after = Guarded(DOWN, Says((START,))).observe(Gap(1.0)).observe(Gap(13.5))
    broken = Guarded(DOWN, Fixed(idle_timeout_s=300.0)).observe(Gap(13.0)).observe(Gap(5.0))

    assert isinstance(after.fallback, Says)
    assert len(after.fallback.saw) == 2
    assert broken.decide(LADDER, Now()) == (
        (START, Step(300.0, OFF)),
        "ZeroDivisionError: 13 is unlucky",
    )
