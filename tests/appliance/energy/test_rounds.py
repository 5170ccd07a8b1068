"""When to look: at the meter's pace, when something changes, and never too often."""

from __future__ import annotations

import math

import pytest

from appliance.energy.rounds import BURST, Rounds
from appliance.energy.timeline import Stretch
from drivers.fake import FakeMeter
from drivers.protocols import Cadence
from policies.ladder import Depth


def a_meter(*, wakes: bool = False, name: str = "fake") -> FakeMeter:
    meter = FakeMeter(name=name)
    meter.cadence = Cadence(busy_hz=0.5, moving_hz=2.0, idle_s=10.0, rest_s=30.0)
    meter.wakes_device = wakes
    return meter


@pytest.mark.parametrize(
    ("doing", "expected_s"),
    [
        (Stretch("waking", Depth.OFF, 1000.0), 0.5),
        (Stretch("idle", Depth.AWAKE, 1000.0, busy=True), 2.0),
        (Stretch("idle", Depth.AWAKE, 999.0), 2.0),  # there may be a tail
        (Stretch("idle", Depth.AWAKE, 900.0), 10.0),
        (Stretch("idle", Depth.STOPPED, 900.0), 30.0),
    ],
)
def test_as_the_cadence_says(doing: Stretch, expected_s: float) -> None:
    """On the move, under load and for the tail after it, idle, at rest."""
    rounds = Rounds([a_meter()])
    rounds.looked(["fake"], 1000.0)

    assert rounds.due_s(doing) == 1000.0 + expected_s
    assert rounds.due(doing, 1000.0) == []
    assert rounds.due(doing, 1000.0 + expected_s) == ["fake"]


def test_at_once_when_it_turns() -> None:
    """Whatever was looked at a moment ago: the joules before are another line's."""
    rounds = Rounds([a_meter()])
    rounds.looked(["fake"], 1000.0)
    rounds.turned(1000.1)

    waking = Stretch("waking", Depth.OFF, 1000.1)
    assert rounds.unseen(waking)
    assert rounds.due(waking, 1000.1) == ["fake"]


def test_at_rest_a_meter_that_would_wake_it_is_looked_at_once_more() -> None:
    """Late enough to see the end of the way down; then not until it wakes."""
    rounds, resting = Rounds([a_meter(wakes=True)], late_s=0.1), Stretch("idle", Depth.OFF, 50.0)
    rounds.looked(["fake"], 49.0)
    rounds.turned(50.0)
    assert rounds.due_s(resting) == 50.1

    rounds.looked(["fake"], 50.1)
    assert rounds.due_s(resting) == math.inf
    assert not rounds.unseen(resting)


def test_at_rest_power_is_looked_at_until_all_is_seen() -> None:
    """A mean over a second does not fall in a straight line after a move of half a second."""
    meter = a_meter(wakes=True)
    meter.source = "integral"
    rounds, resting = Rounds([meter], late_s=1.1), Stretch("idle", Depth.OFF, 50.0)
    rounds.looked(["fake"], 49.8)
    rounds.turned(50.0)
    looks_s = []
    while (due_s := rounds.due_s(resting)) < math.inf:
        assert rounds.unseen(resting)
        rounds.looked(["fake"], due_s)
        looks_s.append(due_s)

    assert looks_s == pytest.approx([50.3, 50.8, 51.1])
    assert not rounds.unseen(resting)


def test_requests_that_come_and_go_cost_no_more_than_load() -> None:
    """Each begin and end asks for a look; a minute of them gets no more than a minute of load."""
    rounds, looks, now_s = Rounds([a_meter()]), 0, 1000.0
    rounds.looked(["fake"], now_s)
    for n in range(600):
        now_s += 0.1
        doing = Stretch("idle", Depth.AWAKE, now_s, busy=n % 2 == 0)
        rounds.edge(now_s)
        if due := rounds.due(doing, now_s):
            rounds.looked(due, now_s)
            looks += 1

    assert looks <= 60 * 0.5 + BURST


def test_power_is_looked_at_when_it_stops_changing_too() -> None:
    """A mean over a second climbs for a second; between two looks the sum is a straight line."""
    meter = a_meter()
    meter.source, meter.window_s = "integral", 1.1
    rounds, doing = Rounds([meter], late_s=1.1), Stretch("idle", Depth.AWAKE, 1010.0, busy=True)
    rounds.looked(["fake"], 1000.0)
    rounds.edge(1010.0)
    assert rounds.due(doing, 1010.0) == ["fake"]

    rounds.looked(["fake"], 1010.0)
    assert rounds.due_s(doing) == 1011.1


def test_each_meter_has_its_own_pace() -> None:
    """A slow one beside a quick one is not read as often as that."""
    slow, quick = a_meter(name="slow"), a_meter(name="quick")
    quick.cadence = Cadence(busy_hz=10.0)
    rounds, doing = Rounds([slow, quick]), Stretch("idle", Depth.AWAKE, 0.0, busy=True)
    rounds.looked(["slow", "quick"], 100.0)

    assert rounds.due(doing, 100.1) == ["quick"]
    rounds.looked(["quick"], 101.9)
    assert rounds.due(doing, 102.0) == ["slow", "quick"]


def test_no_meter() -> None:
    """Nothing is ever due."""
    assert Rounds([]).due_s(Stretch("idle", Depth.OFF, 0.0)) == math.inf
