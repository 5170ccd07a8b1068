"""The shipped policies: pure, and what they plan."""

from __future__ import annotations

import pytest

from policies.always_on import AlwaysOn
from policies.fixed import Fixed
from policies.ladder import Depth, Gap, Now, Rung, Step, deepest, next_edge

LADDER = tuple(
    Rung(depth=depth, power_w=power)
    for depth, power in [(Depth.AWAKE, 80.0), (Depth.PARKED, 79.0), (Depth.OFF, 75.0)]
)


def test_always_on_never_rests() -> None:
    """One step, whatever it has seen."""
    policy = AlwaysOn()
    assert policy.observe(Gap(1e6)) is policy

    assert policy.plan(LADDER, Now()) == (Step(0.0, Depth.AWAKE),)


def test_fixed_rests_once_as_deep_as_it_may() -> None:
    """After the idle timeout, and no earlier than the operator wants it warm."""
    awake = Step(0.0, Depth.AWAKE)
    policy = Fixed(idle_timeout_s=300.0)

    assert policy.plan(LADDER, Now()) == (awake, Step(300.0, Depth.OFF))
    assert policy.plan(LADDER, Now(keep_warm_s=900)) == (awake, Step(900.0, Depth.OFF))
    assert Fixed(idle_timeout_s=1, max_depth=Depth.STOPPED).plan(LADDER, Now())[-1] == Step(
        1, Depth.PARKED
    )
    assert Fixed(idle_timeout_s=1, max_depth=Depth.AWAKE).plan(LADDER, Now()) == (awake,)
    assert Fixed(idle_timeout_s=1, max_depth=None).plan(LADDER, Now())[-1] == Step(1, Depth.PARKED)


def test_a_rung_has_no_negative_cost() -> None:
    """A mistake in a price list is found when it is read."""
    with pytest.raises(ValueError, match="negative"):
        Rung(depth=Depth.OFF, power_w=-1.0)


def test_edges_lead_down_to_the_goal() -> None:
    """From every depth to every deeper one, in at most three steps, always deeper."""
    for goal in Depth:
        for start in Depth:
            passed = [start]
            while passed[-1] < goal:
                passed.append(next_edge(passed[-1], goal))
                assert passed[-2] < passed[-1] <= goal
            assert len(passed) <= 4


def test_deepest_is_what_is_offered() -> None:
    """Never a rung that this machine lacks."""
    assert deepest(LADDER).depth is Depth.OFF
    assert deepest(LADDER, Depth.STOPPED).depth is Depth.PARKED
