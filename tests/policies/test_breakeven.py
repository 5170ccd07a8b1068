"""`breakeven` and its theorem."""

from __future__ import annotations

import math

from hypothesis import given, settings

from policies.breakeven import Breakeven
from policies.course import clairvoyant_j, course
from policies.envelope import FINE, bound, envelope
from policies.ladder import Depth, Gap, Ladder, Now, Rung, Step, Timetable
from tests.policies.ladders import IDLE_S, LAMBDAS, ladders, two_rungs


def paid_j(ladder: Ladder, steps: Timetable, idle_s: float, lambda_w: float) -> float:
    spent = course(ladder, steps).spent(idle_s)
    return spent.excess_j + lambda_w * spent.wait_s


@settings(max_examples=200)
@given(ladders(at_once=True), IDLE_S, LAMBDAS)
def test_never_more_than_twice_the_clairvoyant(
    ladder: Ladder, idle_s: float, lambda_w: float
) -> None:
    """Where edges add up and settle at once: any prices, any idle time, and on its steps."""
    steps = Breakeven().plan(ladder, Now(lambda_w=lambda_w))
    instants_s = [idle_s, *(step.after_s for step in steps)]
    for at_s in (*instants_s, *(math.nextafter(at_s, math.inf) for at_s in instants_s)):
        least_j = clairvoyant_j(ladder, at_s, lambda_w)

        assert paid_j(ladder, steps, at_s, lambda_w) <= 2 * least_j + 1e-6 * (1 + least_j)
    assert envelope(ladder, lambda_w).bound <= 2 + 1e-6


@settings(max_examples=200)
@given(ladders(), IDLE_S, LAMBDAS)
def test_the_bound_that_is_told_is_kept(ladder: Ladder, idle_s: float, lambda_w: float) -> None:
    """Also where an arrival may meet an engine that settles."""
    found = envelope(ladder, lambda_w)
    instants_s = [idle_s, *(step.after_s for step in found.steps)]
    for at_s in (*instants_s, *(math.nextafter(at_s, math.inf) for at_s in instants_s)):
        least_j = clairvoyant_j(ladder, at_s, lambda_w)
        most_j = found.bound * least_j if least_j else math.inf

        assert paid_j(ladder, found.steps, at_s, lambda_w) <= most_j + 1e-6 * (1 + least_j)


def test_the_bound_is_reached() -> None:
    """Just after the step it has paid twice: the bound is no larger than it must be."""
    ladder = two_rungs(180.0)
    steps = Breakeven().plan(ladder, Now(lambda_w=0.0))

    assert steps == (Step(0.0, Depth.AWAKE), Step(180.0, Depth.OFF))
    assert paid_j(ladder, steps, math.nextafter(180.0, math.inf), 0.0) / (180 * 40) > 1.999
    assert envelope(ladder, 0.0).bound == 2.0


def test_a_waiting_person_is_worth_idle_time() -> None:
    """With 100 W for each second of the wake of 10 s, it stays up 25 s longer at 40 W."""
    steps = Breakeven().plan(two_rungs(180.0), Now(lambda_w=100.0))

    assert steps[-1] == Step(205.0, Depth.OFF)


def test_a_rung_that_is_never_cheapest_is_passed_over() -> None:
    """Lines that lie above the others' are not on the envelope; nor is one that saves nothing."""
    ladder = (
        Rung(depth=Depth.AWAKE, power_w=40.0),
        Rung(depth=Depth.LIGHT, power_w=40.0, wake_j=1.0),
        Rung(depth=Depth.PARKED, power_w=39.0, wake_j=5000.0),
        Rung(depth=Depth.OFF, power_w=0.0, wake_j=6000.0),
    )

    assert Breakeven().plan(ladder, Now(lambda_w=0.0)) == (
        Step(0.0, Depth.AWAKE),
        Step(150.0, Depth.OFF),
    )


def test_what_costs_nothing_is_done_at_once() -> None:
    """A rung without a price, and one as good as it: the deeper draws no less."""
    ladder = (
        Rung(depth=Depth.AWAKE, power_w=40.0),
        Rung(depth=Depth.PARKED, power_w=0.0),
        Rung(depth=Depth.OFF, power_w=0.0),
    )

    assert Breakeven().plan(ladder, Now(lambda_w=0.0)) == (
        Step(0.0, Depth.AWAKE),
        Step(0.0, Depth.PARKED),
    )


def test_a_rung_that_makes_the_worst_case_worse_is_left_out() -> None:
    """It settles long for what its wake costs: whoever meets it on its way down waits for that."""
    ladder = (
        Rung(depth=Depth.AWAKE, power_w=40.0),
        Rung(depth=Depth.PARKED, power_w=20.0, enter_s=5.0, wake_s=1.0, wake_j=50.0),
        Rung(depth=Depth.OFF, power_w=0.0, enter_s=1.0, wake_s=20.0, wake_j=4000.0),
    )
    every = (Step(0.0, Depth.AWAKE), Step(2.5, Depth.PARKED), Step(297.5, Depth.OFF))
    found = envelope(ladder, 100.0)

    assert bound(ladder, every, 100.0) > FINE
    assert [step.depth for step in found.steps] == [Depth.AWAKE, Depth.OFF]
    assert found.bound == bound(ladder, found.steps, 100.0) < FINE


def test_what_it_sees_changes_nothing() -> None:
    """It has no memory."""
    policy = Breakeven()

    assert policy.observe(Gap(5.0)) is policy
