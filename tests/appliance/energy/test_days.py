"""A day of the simulated plant, played to the books: what they find is what was true.

One day for each sensor and its faults; bench/attribution.py plays more. And anything at
all, for what must always hold.
"""

from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.energy.books import AHEAD_S
from appliance.energy.learned import Learned
from bench.attribution import SENSORS, judged, sensors, true_lines
from drivers.plant_meter import Sensor
from drivers.plant_story import H200, Served, Story, a_day
from policies.ladder import Depth
from tests.played import play

DAY = a_day(1)
ALL = sensors(1, DAY.plant())
WITHIN = {"trailing": 0.10, "boxcar": 0.05, "counter": 0.02, "exact": 0.02}
"""What of a day may have no line."""


@pytest.mark.parametrize("name", ALL)
def test_a_day_through(name: str) -> None:
    """Σ lines is the meter; each line within 3 %; a request of 5 s and more within a tenth."""
    told = judged(DAY, ALL[name], play(DAY, ALL[name]))

    assert told["identity"] < 1e-9
    assert told["unattributed"] <= WITHIN[name.partition(",")[0].split(" ")[0]]
    assert max(abs(off) for off in told["lines"].values()) <= 0.03
    assert len(told["good"]) >= 0.9 * len(told["requests"]) >= 90
    assert max(told["good"]) <= 0.1


def test_without_a_floor_nothing_is_claimed() -> None:
    """An engine that rests at once, on a machine that nobody has seen idle: unattributed."""
    story = Story(H200, depth="off")
    story.wake(5.0)
    story.serve(
        Served(id="a", prefill_s=0.1, decode_s=8.0, prompt_tokens=99, completion_tokens=400)
    )
    story.enter("off", 1.0)
    played = play(story, SENSORS["counter"])

    assert played.shares["a"].energy_j is None
    assert played.lines["unattributed", "awake"] > 0
    assert played.lines["request", "awake"] == 0


def test_the_next_daemon_knows_already() -> None:
    """With what was learned the day before, the first request is right, too."""
    story = a_day(4, hours=1.0, pause_s=300.0)
    learned = Learned.of(play(DAY, SENSORS["counter"]).learned.rows(), None)
    played = play(story, SENSORS["counter"], learned=learned)
    told = judged(story, SENSORS["counter"], played)

    assert learned.floor_w(Depth.AWAKE) == pytest.approx(79.0, abs=0.5)
    assert max(told["requests"]) <= 0.1


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Anything that may happen to an engine, in any order."""
    story, count = Story(H200, depth="off"), 0
    for _ in range(draw(st.integers(1, 12))):
        what = draw(st.sampled_from(("rest", "move", "serve", "serve")))
        if what == "rest":
            story.rest(draw(st.floats(0.01, 200)))
        elif story.depth != "awake":
            story.wake(draw(st.floats(0.05, 20)))
        elif what == "move":
            story.enter(draw(st.sampled_from(("light", "parked", "stopped", "off"))), 0.7)
        else:
            requests = [
                Served(
                    id=f"r{count + n}",
                    after_s=draw(st.floats(0, 5)),
                    prefill_s=draw(st.floats(0.01, 3)),
                    decode_s=draw(st.floats(0.01, 100)),
                    prompt_tokens=draw(st.integers(0, 5000)),
                    completion_tokens=draw(st.integers(0, 5000)),
                )
                for n in range(draw(st.integers(1, 5)))
            ]
            count += len(requests)
            story.serve(*requests)
    story.rest(draw(st.floats(0.01, 50)))
    return story


@st.composite
def faulty(draw: st.DrawFn) -> Sensor:
    """Any sensor, with anything wrong with it."""
    kind: Literal["counter", "power"] = "counter" if draw(st.booleans()) else "power"
    begins_s = st.floats(0, 500)
    silences = st.lists(st.tuples(begins_s, st.floats(0.1, 1200)), max_size=4)
    return Sensor(
        kind=kind,
        period_s=draw(st.sampled_from((0.0, 0.1, 1.0))),
        window_s=draw(st.sampled_from((0.0, 0.025, 1.0))),
        gain=draw(st.floats(0.9, 1.1)),
        resets_s=tuple(sorted(draw(st.lists(begins_s, max_size=3)))),
        silences_s=tuple((at, at + lasts) for at, lasts in draw(silences)),
        jumps_s=tuple(draw(st.lists(st.tuples(begins_s, st.floats(-500, 5000)), max_size=2))),
    )


def a_second() -> Story:
    story = Story(H200, depth="off")
    story.rest(1.0)
    return story


@settings(max_examples=100)
@given(stories(), faulty())
@example(a_second(), Sensor(kind="power", jumps_s=((0.0, -1.0),)))
@example(a_second(), Sensor(kind="power", jumps_s=((0.0, -100.0),)))
def test_whatever_happens(story: Story, sensor: Sensor) -> None:
    """Σ lines is what the meter has counted, none is negative, and all time is in one line."""
    played = play(story, sensor)
    whole_s = story.now_s - story.events[0].at_s
    booked_s = sum(s for (line, _), s in played.seconds.items() if line not in {"request", "tail"})
    requests_j = [share.counted_j for share in played.shares.values()]

    assert sum(played.lines.values()) - played.table_j == pytest.approx(
        played.metered_j, rel=1e-6, abs=1e-6
    )
    assert all(joules >= 0 for joules in played.lines.values())
    # A meter's clock may be behind by AHEAD_S: at the end that much has not been looked at.
    assert whole_s - AHEAD_S <= booked_s <= whole_s * (1 + 1e-6)
    assert math.fsum(requests_j) == pytest.approx(
        played.lines["request", "awake"], rel=1e-6, abs=1e-6
    )
    assert all(share.energy_j is None or share.energy_j >= 0 for share in played.shares.values())


def test_the_truth_is_all_of_it() -> None:
    """What the ledger is compared with is what the plant has drawn."""
    plant = DAY.plant()

    assert sum(true_lines(plant, 1.0).values()) == pytest.approx(plant.energy_j(math.inf))
