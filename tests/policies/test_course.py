"""What an idle period costs: to the joule, by hand, and for the clairvoyant."""

from __future__ import annotations

from hypothesis import given

from policies.course import Spent, clairvoyant_j, course
from policies.ladder import Depth, Ladder, Rung, Step
from tests.policies.ladders import IDLE_S, LAMBDAS, ladders

AWAKE, PARKED, OFF = Depth.AWAKE, Depth.PARKED, Depth.OFF

LADDER = (
    Rung(depth=AWAKE, power_w=50.0),
    Rung(depth=PARKED, power_w=20.0, enter_s=2.0, enter_j=30.0, wake_s=3.0, wake_j=100.0),
    Rung(depth=OFF, power_w=10.0, enter_s=4.0, enter_j=50.0, wake_s=20.0, wake_j=900.0),
)
START = Step(0.0, AWAKE)


def test_each_second_edge_and_wake_is_paid_once() -> None:
    """Awake 100 s, parked 300 s, then off: above the 10 W of the deepest."""
    followed = course(LADDER, (START, Step(100.0, PARKED), Step(402.0, OFF)))
    parked_j = 100 * 40 + 30

    assert followed.spent(60.0) == Spent(2400.0, 0.0, AWAKE, 0)
    assert followed.spent(202.0) == Spent(parked_j + 100 * 10 + 100, 3.0, PARKED, 1)
    assert followed.spent(1000.0) == Spent(parked_j + 300 * 10 + 50 + 900, 20.0, OFF, 1)


def test_who_comes_while_it_settles_waits_for_that_edge() -> None:
    """The rest of the edge it is on, and the wake from there; not for the edges that follow."""
    followed = course(LADDER, (START, Step(100.0, OFF)))

    assert followed.spent(101.5) == Spent(4000 + 30 + 100, 0.5 + 3.0, PARKED, 1)
    assert followed.spent(103.0) == Spent(4000 + 80 + 900, 3.0 + 20.0, OFF, 1)


def test_on_the_stroke_of_a_step_the_arrival_is_first() -> None:
    """As the supervisor has it: a request wins over a timer of the same turn."""
    followed = course(LADDER, (START, Step(100.0, PARKED)))

    assert followed.spent(100.0).depth is AWAKE
    assert followed.just_after(100.0).depth is PARKED


def test_a_wake_before_the_arrival_is_paid_and_waited_for() -> None:
    """A step up: joules of that wake, and whoever comes during it waits for what is left."""
    followed = course(LADDER, (START, Step(0.0, PARKED), Step(500.0, AWAKE)))
    by_then_j = 30 + 498 * 10 + 100

    assert followed.spent(501.0) == Spent(by_then_j, 2.0, AWAKE, 1)
    assert followed.spent(603.0) == Spent(by_then_j + 100 * 40, 0.0, AWAKE, 1)


def test_steps_that_lead_nowhere_are_none() -> None:
    """To where it is, or halfway up, which no engine can."""
    plain = course(LADDER, (START, Step(0.0, OFF)))
    odd = course(LADDER, (START, Step(0.0, AWAKE), Step(0.0, OFF), Step(50.0, PARKED)))

    assert odd == plain


def test_the_clairvoyant_chooses_by_the_length() -> None:
    """Stay, park or stop; whoever comes while it settles has to wait for it, too."""
    assert clairvoyant_j(LADDER, 2.0, 0.0) == 80.0
    assert clairvoyant_j(LADDER, 32.0, 0.0) == 30 + 100 + 30 * 10
    assert clairvoyant_j(LADDER, 1e6, 0.0) == 80 + 900
    assert clairvoyant_j(LADDER, 1e6, 100.0) == 80 + 900 + 2000


@given(ladders(), IDLE_S, LAMBDAS)
def test_nobody_is_better_than_the_clairvoyant(
    ladder: Ladder, idle_s: float, lambda_w: float
) -> None:
    """Whatever single step is taken, and whenever."""
    least_j = clairvoyant_j(ladder, idle_s, lambda_w)
    for rung in ladder:
        for after_s in (0.0, idle_s / 2, idle_s):
            spent = course(ladder, (START, Step(after_s, rung.depth))).spent(idle_s)

            assert spent.excess_j + lambda_w * spent.wait_s >= least_j - 1e-9 * (1 + least_j)
