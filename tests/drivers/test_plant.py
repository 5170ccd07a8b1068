"""The simulated plant: what is true of it, and what each sensor makes of that."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import DriverError, Unresponsive
from drivers.instants import boottime_s
from drivers.plant import Cause, Piece, Plant
from drivers.plant_meter import (
    BOXCAR_25_100,
    COUNTER,
    COUNTER_25_100,
    TRAILING_1_S,
    PlantMeter,
    Sensor,
)
from drivers.plant_story import H200, Began, Ended, Served, Story, Turned, a_day
from drivers.protocols import Meter, Sample
from tests.contracts.meter import MeterContract

SENSORS = {
    "exact": Sensor(),
    "counter": COUNTER,
    "boxcar": BOXCAR_25_100,
    "counter-of-boxcars": COUNTER_25_100,
    "trailing-mean": TRAILING_1_S,
    "gain": Sensor(period_s=0.1, window_s=0.1, gain=1.05),
    "wraps": Sensor(period_s=0.1, window_s=0.1, wrap_j=400.0),
}


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
class TestPlantMeter(MeterContract):
    @pytest.fixture
    def meter(self, sensor: Sensor) -> Meter:
        now_s = boottime_s()
        return PlantMeter(Plant([Piece(Cause("idle", "off"), now_s - 60, now_s + 600, 75)]), sensor)


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """Up to a dozen pieces between 0 and 100 s, over one another anyhow."""
    made = []
    for n in range(draw(st.integers(1, 12))):
        start_s = draw(st.floats(0, 90))
        end_s = start_s + draw(st.floats(0.01, 10))
        power_w, end_w = draw(st.floats(0, 700)), draw(st.none() | st.floats(0, 700))
        made.append(Piece(Cause("request", str(n)), start_s, end_s, power_w, end_w))
    return Plant(made)


@given(plants(), st.floats(-10, 110), st.floats(0, 60))
def test_the_truth_adds_up(plant: Plant, start_s: float, seconds: float) -> None:
    """Of any span: the causes' joules are what the whole plant has drawn."""
    end_s = start_s + seconds
    drawn_j = plant.energy_j(end_s) - plant.energy_j(start_s)

    assert sum(plant.joules(start_s, end_s).values()) == pytest.approx(drawn_j, abs=1e-6)
    assert drawn_j <= plant.peak_w * seconds + 1e-6


@given(plants(), st.floats(0, 100))
def test_power_is_how_fast_energy_grows(plant: Plant, at_s: float) -> None:
    """Within a stretch without a step, to the millisecond."""
    middle_s = at_s + 0.0005
    if any(at_s <= each <= at_s + 0.001 for p in plant.pieces for each in (p.start_s, p.end_s)):
        return
    grown_j = plant.energy_j(at_s + 0.001) - plant.energy_j(at_s)

    assert grown_j == pytest.approx(0.001 * plant.power_w(middle_s), abs=1e-6)


def seen(
    plant: Plant, sensor: Sensor, *, every_s: float = 1.0, until_s: float | None = None
) -> Iterator[Sample]:
    """What a meter says about it, looked at that often from its beginning to its end."""
    clock = [plant.start_s]
    meter = PlantMeter(plant, sensor, now=lambda: clock[0])
    meter.open()
    end_s = plant.end_s if until_s is None else until_s
    for n in itertools.count():
        clock[0] = min(plant.start_s + n * every_s, end_s)
        with contextlib.suppress(DriverError):
            yield meter.sample()
        if clock[0] >= end_s:
            return


def counted_j(samples: Iterator[Sample]) -> float:
    """All that can be subtracted."""
    return sum(
        later.energy_j - earlier.energy_j
        for earlier, later in itertools.pairwise(samples)
        if later.epoch == earlier.epoch
    )


def steady(*, hours: float = 1.0) -> Plant:
    """A rectangle of 100 W and 500 W by turns, of 7.3 s and 3.1 s."""
    pieces, at_s = [], 0.0
    while at_s < hours * 3600:
        pieces += [
            Piece(Cause("idle", "awake"), at_s, at_s + 7.3, 100.0),
            Piece(Cause("request", "r"), at_s + 7.3, at_s + 10.4, 500.0),
        ]
        at_s += 10.4
    return Plant(pieces)


@given(plants(), st.sampled_from([0.05, 0.1, 1.0]), st.floats(0, 1), st.floats(0.9, 1.1))
def test_a_sensor_that_leaves_nothing_out(
    plant: Plant, window_s: float, phase: float, gain: float
) -> None:
    """Its counter is off by what is drawn in two of its windows, however long it counts."""
    sensor = Sensor(period_s=window_s, window_s=window_s, phase_s=phase * window_s, gain=gain)
    found_j = counted_j(seen(plant, sensor, until_s=plant.end_s + 2 * window_s))
    true_j = gain * plant.energy_j(math.inf)

    assert found_j == pytest.approx(true_j, abs=2 * gain * plant.peak_w * window_s + 1e-6)


@given(plants(), st.floats(0, 0.1))
def test_a_boxcar_is_right_on_average(plant: Plant, phase_s: float) -> None:
    """It sees a quarter of the time. Four of them, a quarter apart, see all of it."""
    four = [Sensor(period_s=0.1, window_s=0.025, phase_s=phase_s + n * 0.025) for n in range(4)]
    found_j = [counted_j(seen(plant, each, until_s=plant.end_s + 0.2)) for each in four]

    assert sum(found_j) / 4 == pytest.approx(plant.energy_j(math.inf), abs=0.4 * plant.peak_w)


@pytest.mark.parametrize(
    ("sensor", "every_s", "rel"),
    [
        (Sensor(), 1.0, 1e-9),
        (COUNTER, 1.0, 1e-3),
        (COUNTER_25_100, 1.0, 2e-3),
        (BOXCAR_25_100, 0.1, 5e-3),
        (TRAILING_1_S, 1.0, 5e-3),
        (TRAILING_1_S, 0.1, 5e-3),
    ],
)
@pytest.mark.parametrize("gain", [0.95, 1.0, 1.05])
def test_the_long_run_mean(sensor: Sensor, every_s: float, rel: float, gain: float) -> None:
    """Over an hour of load by turns every sensor is right, but for its gain."""
    plant = steady()
    found_j = counted_j(seen(plant, dataclasses.replace(sensor, gain=gain), every_s=every_s))

    assert found_j == pytest.approx(gain * plant.energy_j(math.inf), rel=rel)


def test_a_counter_ticks() -> None:
    """Between two ticks it stands still."""
    plant = Plant([Piece(Cause("idle", "off"), 0.0, 10.0, 100.0)])
    found = [s.energy_j for s in seen(plant, COUNTER, every_s=0.05, until_s=0.5)]

    assert found == pytest.approx([0, 0, 10, 10, 20, 20, 30, 30, 40, 40, 50], abs=1e-6)


def test_a_mean_lags() -> None:
    """Half a second after a step of 400 W a mean over one second shows half of it."""
    plant = Plant(
        [
            Piece(Cause("idle", "awake"), 0.0, 10.0, 100.0),
            Piece(Cause("request", "r"), 5.0, 10.0, 400.0),
        ]
    )
    clock = [5.5]
    meter = PlantMeter(plant, TRAILING_1_S, now=lambda: clock[0])
    meter.sample()
    clock[0] = 5.55

    assert meter.sample().energy_j == pytest.approx(0.05 * 300.0)


def test_wraps_are_counted() -> None:
    """Every 4 kJ, which is every 18 s: nothing is lost."""
    plant = steady(hours=0.05)
    sensor = Sensor(wrap_j=4000.0)
    samples = list(seen(plant, sensor))

    assert samples[-1].epoch == 0
    assert samples[-1].energy_j == pytest.approx(plant.energy_j(math.inf))


def test_a_reset_is_a_new_epoch() -> None:
    """What is lost is at most what was drawn between the two looks around it."""
    plant = steady(hours=0.1)
    samples = list(seen(plant, Sensor(resets_s=(100.5, 200.5))))
    lost_j = plant.energy_j(math.inf) - counted_j(iter(samples))

    assert samples[-1].epoch == 2
    assert 0 < lost_j <= 2 * plant.peak_w


def test_a_counter_goes_on_while_it_is_silent() -> None:
    """Nothing is lost; power that was not looked at for 5 s is a straight line."""
    plant = steady(hours=0.1)
    silent = Sensor(silences_s=((100.0, 105.0), (200.0, 230.0)))
    clock = [100.0]
    with pytest.raises(Unresponsive):
        PlantMeter(plant, silent, now=lambda: clock[0]).sample()

    assert counted_j(seen(plant, silent)) == pytest.approx(plant.energy_j(math.inf))


def test_a_clock_that_jumps() -> None:
    """Forward: the joules are right, the time is not. Back: a new epoch."""
    plant = steady(hours=0.1)
    forward = list(seen(plant, Sensor(jumps_s=((100.5, 3600.0),))))
    back = list(seen(plant, Sensor(jumps_s=((100.5, -50.0),))))

    assert forward[-1].at_s == pytest.approx(plant.end_s + 3600)
    assert counted_j(iter(forward)) == pytest.approx(plant.energy_j(math.inf))
    assert back[-1].epoch == 1


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_spoiled_by_chance(seed: int) -> None:
    """The same seed spoils it the same way. What is counted is never more than was drawn."""
    plant = steady(hours=0.1)
    sensors = [COUNTER.spoiled(seed, plant, resets=3, silences=5) for _ in range(2)]
    found = [list(seen(plant, sensor)) for sensor in sensors]
    most_j = sensors[0].gain * (plant.energy_j(math.inf) + plant.peak_w)

    assert found[0] == found[1]
    assert counted_j(iter(found[0])) <= most_j
    assert found[0][-1].epoch <= 6


def test_a_story() -> None:
    """Each cause has what it was told to draw, and the events are those of a ledger."""
    story = Story(H200, depth="off")
    story.rest(100)
    story.wake(4)
    one = Served(
        id="a", prefill_s=1, decode_s=4, prompt_tokens=100, completion_tokens=200, after_s=1
    )
    two = Served(id="b", prefill_s=1, decode_s=1, prompt_tokens=10, completion_tokens=20, after_s=3)
    story.serve(one, two)
    story.rest(4)
    story.rest(56)
    story.enter("parked", 2)
    story.rest(10)
    true_j = story.plant().joules()

    assert true_j == {
        Cause("idle", "off"): pytest.approx(7550),
        Cause("waking", "off"): pytest.approx(600),
        Cause("idle", "awake"): pytest.approx(66 * 79),
        Cause("request", "a"): pytest.approx(100 * 0.05 + 200 * 2.05),
        Cause("request", "b"): pytest.approx(10 * 0.05 + 20 * 2.05),
        Cause("tail", "awake"): pytest.approx(20 * 8 / 2),
        Cause("entering", "parked"): pytest.approx(220),
        Cause("idle", "parked"): pytest.approx(775),
    }
    assert story.events == (
        Turned(0, "idle", "off"),
        Turned(100, "waking", "off"),
        Turned(104, "idle", "awake"),
        Began(105, one),
        Began(107, two),
        Ended(109, two),
        Ended(110, one),
        Turned(170, "entering", "parked"),
        Turned(172, "idle", "parked"),
    )


def test_a_tail_that_is_cut_short() -> None:
    """The next request, or the way down, ends it."""
    request = Served(id="a", prefill_s=1, decode_s=1, prompt_tokens=1, completion_tokens=1)
    story = Story(H200, depth="awake")
    story.serve(request)
    story.rest(4)
    story.enter("off", 1)
    story.rest(10)
    true_j = story.plant().joules()

    assert true_j[Cause("tail", "awake")] == pytest.approx((20 + 10) / 2 * 4)
    assert Cause("tail", "off") not in true_j


def test_as_vllm_ships() -> None:
    """The boost is a cause of its own, for as long as the engine is awake."""
    story = Story(dataclasses.replace(H200, boost_w=41.0), depth="awake")
    story.rest(10)
    story.enter("off", 1)
    story.rest(10)

    assert story.plant().joules()[Cause("boost", "awake")] == pytest.approx(410)


def test_nothing_is_served_asleep() -> None:
    """Such a story is a bug."""
    story = Story(H200, depth="parked")
    with pytest.raises(ValueError, match="while parked"):
        story.serve(Served(id="a", prefill_s=1, decode_s=1, prompt_tokens=1, completion_tokens=1))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_day(seed: int) -> None:
    """By its seed alone; as long as a day, or little more; and it adds up."""
    story, again = a_day(seed), a_day(seed)
    plant = story.plant()

    assert story.events == again.events
    assert story.events != a_day(seed + 1).events
    assert plant.end_s - plant.start_s == pytest.approx(86_400, abs=600)
    assert sum(plant.joules().values()) == pytest.approx(plant.energy_j(math.inf), rel=1e-9)
    assert len([e for e in story.events if isinstance(e, Ended)]) > 100


@pytest.mark.parametrize("sensor", [COUNTER, COUNTER_25_100, TRAILING_1_S])
def test_a_day_is_seen(sensor: Sensor) -> None:
    """Looked at once a second, a day's joules are within half a percent."""
    plant = a_day(7).plant()

    assert counted_j(seen(plant, sensor)) == pytest.approx(plant.energy_j(math.inf), rel=5e-3)
