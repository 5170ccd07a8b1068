"""A smart plug: what it publishes, what is made of it, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import BadReading, Unresponsive
from drivers.plug import MAX_W, PlugMeter
from drivers.plug_energy import PlugEnergy
from drivers.plug_message import PlugReading, read_message
from drivers.protocols import Meter
from tests.contracts.meter import MeterContract

# tasmota.github.io/docs, "Power Monitoring"
TASMOTA = (
    b'{"Time":"2018-02-15T17:37:10","ENERGY":{"TotalStartTime":"2018-01-01T00:00:00","Total":6.294,'
    b'"Yesterday":5.340,"Today":0.954,"Period":217,"Power":2635,"ApparentPower":2650,'
    b'"ReactivePower":282,"Factor":0.99,"Voltage":227,"Current":11.661}}'
)
# home-assistant-libs/aioshelly, its tests
SHELLY = (
    b'{"id":0,"source":"init","output":true,"apower":10.7,"voltage":120.7,"current":0.133,'
    b'"aenergy":{"total":46791.262,"by_minute":[73.921,177.749,177.749],"minute_ts":1682952864},'
    b'"temperature":{"tC":25.0,"tF":77.0}}'
)


def tasmota(kwh: Any, watts: Any) -> bytes:
    return json.dumps({"Time": "x", "ENERGY": {"Total": kwh, "Power": watts}}).encode()


def shelly(watt_hours: Any, watts: Any) -> bytes:
    return json.dumps({"id": 0, "apower": watts, "aenergy": {"total": watt_hours}}).encode()


class Wall:
    """A plug and a clock that are set by hand."""

    def __init__(self) -> None:
        self.at_s = 1000.0
        self.meter = PlugMeter("tele/box/SENSOR", now=lambda: self.at_s)
        self.meter.open()

    def says(self, payload: bytes, *, after_s: float = 10.0) -> float:
        """The joules after this message. Raises what the meter raises."""
        self.at_s += after_s
        self.meter.take(payload)
        return self.meter.sample().energy_j


@pytest.fixture
def wall() -> Wall:
    return Wall()


class TestPlugMeter(MeterContract):
    @pytest.fixture
    def meter(self, wall: Wall) -> Meter:
        wall.says(SHELLY)
        wall.says(SHELLY)
        return wall.meter


@pytest.mark.parametrize(
    ("payload", "reading"),
    [
        (TASMOTA, PlugReading(6.294 * 3.6e6, 3600.0, 2635.0)),
        (b'{"StatusSNS":' + TASMOTA + b"}", PlugReading(6.294 * 3.6e6, 3600.0, 2635.0)),
        (SHELLY, PlugReading(46791.262 * 3600, 3.6, 10.7)),
        (tasmota([1.5, 2.25], [100, 50]), PlugReading(3.75 * 3.6e6, 36_000.0, 150.0)),
        (tasmota(7, 0), PlugReading(7 * 3.6e6, 3.6e6, 0.0)),
        (b'{"aenergy":{"total":1.0}}', PlugReading(3600.0, 360.0, None)),
        (shelly(1.0, None), PlugReading(3600.0, 360.0, None)),
    ],
)
def test_messages(payload: bytes, reading: PlugReading) -> None:
    """Both makes, one phase or three, and the counter's step by its digits."""
    read = read_message("plug", payload)

    assert (read.energy_j, read.step_j) == pytest.approx((reading.energy_j, reading.step_j))
    assert read.power_w == reading.power_w


WRONG = [
    b"",
    b"Online",
    b"12.5",
    b"null",
    b"[]",
    b"{}",
    b'{"ENERGY":{}}',
    b'{"ENERGY":{"Power":12}}',
    b'{"ENERGY":{"Total":NaN,"Power":1}}',
    b'{"ENERGY":{"Total":1e999999,"Power":1}}',
    b'{"aenergy":{"total":1,"total":Infinity},"apower":1}',
    tasmota("6.294", 10),
    tasmota(True, 10),
    tasmota(-1, 10),
    tasmota(None, 10),
    tasmota([], 10),
    tasmota(int("9" * 400), 10),
    tasmota(6.3, "on"),
    tasmota(6.3, -12),
    shelly({}, 1),
    b"[" * 10_000,
    b'{"ENERGY":{"Total":1,"Power":1},"pad":"' + b"x" * 20_000 + b'"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("payload", WRONG)
def test_what_is_no_message(wall: Wall, payload: bytes) -> None:
    """Is a bad reading until a good message comes, which continues from the good one before."""
    wall.says(shelly(1000.0, 36.0))
    with pytest.raises(BadReading):
        wall.says(payload)

    assert wall.says(shelly(1000.2, 36.0)) == pytest.approx(720.0)
    assert wall.meter.sample().epoch == 0


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_message_gets_through(payload: bytes) -> None:
    """take() never raises, whatever is published."""
    PlugMeter("t", now=lambda: 0.0).take(payload)


def test_nothing_yet(wall: Wall) -> None:
    """A topic under which nothing was published is unresponsive, and is named."""
    with pytest.raises(Unresponsive, match="tele/box/SENSOR"):
        wall.meter.sample()


def test_retained_is_stale(wall: Wall) -> None:
    """A message that the broker kept is no reading, nor does it spoil one."""
    wall.meter.take(SHELLY, retained=True)
    with pytest.raises(Unresponsive):
        wall.meter.sample()


def test_silence(wall: Wall) -> None:
    """What was said eleven minutes ago is no reading any more; then it goes on."""
    wall.says(shelly(1000.0, 36.0))
    wall.at_s += 600
    assert wall.meter.sample().at_s == wall.at_s - 600
    wall.at_s += 100
    with pytest.raises(Unresponsive, match="for 700 s"):
        wall.meter.sample()

    # The counter says what nobody heard: 36 W for 800 s.
    assert wall.says(shelly(1008.0, 36.0), after_s=100) == pytest.approx(28_800.0)
    assert wall.meter.sample().epoch == 0


def test_a_leap_of_ten_times(wall: Wall) -> None:
    """Neither of the counter nor of the power."""
    wall.says(shelly(1000.0, 500.0))
    with pytest.raises(BadReading, match="counter went from"):
        wall.says(shelly(10_000.0, 500.0))
    with pytest.raises(BadReading, match="5000 W"):
        wall.says(shelly(1001.0, 5000.0))

    assert wall.says(shelly(1004.167, 500.0)) == pytest.approx(15_000.0, rel=0.001)


def test_a_counter_that_was_reset(wall: Wall) -> None:
    """Is a new epoch: nothing is subtracted across it."""
    wall.says(tasmota(6.294, 100))
    wall.says(tasmota(0.000, 100))

    assert wall.says(tasmota(0.000, 100)) == pytest.approx(1000.0)
    assert wall.meter.sample().epoch == 1


@pytest.mark.parametrize("apart", [0.5, 120.0])
def test_two_plugs_under_one_topic(wall: Wall, apart: float) -> None:
    """Is noticed within a few messages, and nothing is counted across from one to the other."""
    told, samples = "", []
    for n in range(8):
        kwh = 6.294 + (apart if n % 2 else 0) + n * 0.0003
        try:
            wall.says(tasmota(round(kwh, 4), 100))
            samples.append(wall.meter.sample())
        except BadReading as error:
            told = str(error)

    assert "two meters" in told
    assert max(sample.energy_j for sample in samples) <= MAX_W * 80


def test_one_of_them_is_taken_away(wall: Wall) -> None:
    """Then the other counts."""
    for n in range(8):
        wall.meter.take(tasmota(6.294 + (50 if n % 2 else 0), 100))
        wall.at_s += 10
    with pytest.raises(BadReading, match="two meters"):
        wall.meter.sample()
    for _ in range(12):
        wall.meter.take(tasmota(6.294, 100))
        wall.at_s += 10

    assert wall.meter.sample().energy_j >= 0


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.9])
def test_between_two_steps_the_power_counts(wall: Wall, phase: float) -> None:
    """At 60 W a counter of watt-hours moves once a minute; the joules move all the time.

    Wherever within a step the counter was when it was first heard.
    """
    found = [
        wall.says(tasmota(round(1 + math.floor(n / 6 + phase) * 0.001, 3), 60)) for n in range(60)
    ]

    assert found == pytest.approx([600.0 * n for n in range(60)], abs=1.0)


def test_a_fine_counter_counts_from_the_first_message(wall: Wall) -> None:
    """The power, here half of what is true, is not needed."""
    found = [wall.says(shelly(round(1000 + n, 3) + 0.001, 180)) for n in range(4)]

    assert found == pytest.approx([3600.0 * n for n in range(4)], abs=1.0)


def test_messages_far_apart(wall: Wall) -> None:
    """Every five minutes it happened to draw 2 kW. The counter knows what was between."""
    wall.says(tasmota(1.000, 2000))
    found = [wall.says(tasmota(1 + n * 0.010, 2000), after_s=300) for n in range(1, 4)]

    assert found == pytest.approx([36_000.0 * n for n in range(1, 4)])


def test_after_a_reset_it_counts_as_before(wall: Wall) -> None:
    """Nothing of the old counter is owed to the new one."""
    for n in range(12):
        wall.says(tasmota(round(6 + (n // 6) * 0.001, 3), 60))
    found = [wall.says(tasmota(round((n // 6) * 0.001, 3), 60)) for n in range(30)]

    assert wall.meter.sample().epoch == 1
    assert found == pytest.approx([600.0 * n for n in range(30)], abs=1.0)


@given(
    watts=st.lists(st.floats(0, 1300), min_size=40, max_size=200),
    every_s=st.sampled_from([1.0, 10.0, 30.0, 300.0]),
    step_wh=st.sampled_from([0.001, 1.0, 10.0]),
    power_gain=st.floats(0.3, 3.0),
    phase=st.floats(0, 1),
)
def test_in_the_long_run_it_is_the_counter(
    watts: list[float], every_s: float, step_wh: float, power_gain: float, phase: float
) -> None:
    """However coarse the counter and however wrong the power: the error does not grow.

    It is at most three steps, as the power has them, and what goes by in two messages' time.
    """
    energy, true_j, at_s = PlugEnergy("plug", max_w=MAX_W), 0.0, 0.0
    step_j, most_w = step_wh * 3600, max(watts)
    start_j = phase * step_j
    before_j = -1.0
    for power_w in watts:
        counter_j = math.floor((start_j + true_j) / step_j) * step_j
        summed_j = energy.take(at_s, PlugReading(counter_j, step_j, power_gain * power_w))
        assert summed_j >= before_j
        most_j = max(1.0, power_gain) * (3 * step_j + 2.5 * most_w * every_s)
        assert abs(summed_j - true_j) <= most_j + 1
        before_j = summed_j
        true_j += power_w * every_s
        at_s += every_s

    assert energy.epoch == 0
