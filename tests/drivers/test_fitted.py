"""A meter that is corrected by a straight line."""

from __future__ import annotations

import pytest

from drivers.fake import FakeMeter
from drivers.fitted import Fitted
from drivers.protocols import Meter
from tests.contracts.meter import MeterContract


class TestFitted(MeterContract):
    """It keeps the promises of the meter that it corrects."""

    @pytest.fixture(params=[(1.18, 61.0), (0.9, -4.0), (1.0, -50.0)])
    def meter(self, request: pytest.FixtureRequest) -> Meter:
        gain, offset_w = request.param
        return Fitted(FakeMeter(10.0, idle_w=10.0), gain=gain, offset_w=offset_w)


class Bench:
    def __init__(self, gain: float, offset_w: float) -> None:
        self.at_s = 100.0
        self.inner = FakeMeter(10.0, idle_w=8.0, now=lambda: self.at_s)
        self.meter = Fitted(self.inner, gain=gain, offset_w=offset_w)
        self.meter.open()

    def counts(self, seconds: float) -> float:
        """Joules of so many seconds."""
        before = self.meter.sample()
        self.at_s += seconds
        return self.meter.sample().energy_j - before.energy_j


def test_gain_and_offset() -> None:
    """Each joule counts so much, and each second so much more; the idle power, too."""
    b = Bench(1.2, 50.0)

    assert b.counts(10) == pytest.approx(1.2 * 100 + 500)
    assert b.meter.idle_w == pytest.approx(1.2 * 8 + 50)
    assert b.meter.sample().energy_j_by_rail == b.inner.sample().energy_j_by_rail


def test_its_device_has_another_name() -> None:
    """Floors that were learned of one are not true of the other."""
    assert Bench(1.2, 50.0).meter.device == "box × 1.2 + 50 W"


def test_where_the_offset_would_run_backwards() -> None:
    """It waits, and nothing is lost: at the end the sum is what it should be."""
    b = Bench(1.0, -20.0)
    b.inner.draw(30.0)
    first = b.counts(10)
    b.inner.draw(5.0)
    idle = b.counts(4)
    b.inner.draw(30.0)
    last = b.counts(20)

    assert first == pytest.approx(100.0)
    assert idle == 0.0
    assert last == pytest.approx(200.0 - 60.0)


def test_a_new_epoch_begins_anew() -> None:
    """The offset counts from its first sample; the inner counter may have begun anywhere."""
    b = Bench(2.0, 1.0)
    b.counts(100)
    b.inner.restart()
    first = b.meter.sample()
    b.at_s += 10

    assert (first.epoch, first.energy_j) == (1, 0.0)
    assert b.meter.sample().energy_j == pytest.approx(2 * 100 + 10)


def test_a_gain_of_nothing() -> None:
    """Would be a meter that counts nothing."""
    with pytest.raises(ValueError, match="gain"):
        Fitted(FakeMeter(), gain=0.0)
