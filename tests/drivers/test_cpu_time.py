from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.cpu_time import CpuTimeMeter
from drivers.errors import BadReading, NotPresent
from drivers.protocols import Meter
from tests.contracts.meter import MeterContract

HZ = os.sysconf("SC_CLK_TCK")


class TestCpuTimeMeter(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return CpuTimeMeter()


class Box:
    """A /proc/stat and a clock that are set by hand."""

    def __init__(self, root: Path) -> None:
        self.at_s = 0.0
        self.stat = root / "proc/stat"
        self.stat.parent.mkdir()
        self.meter = CpuTimeMeter(core_w=6, idle_w=4, root=root, now=lambda: self.at_s)

    def write(self, *seconds: float) -> None:
        fields = " ".join(str(int(s * HZ)) for s in seconds)
        self.stat.write_text(f"cpu  {fields}\ncpu0 {fields}\nintr 1\n")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_counts_only_work_of_this_box(box: Box) -> None:
    """user, nice, system, irq and softirq count; idle, iowait, steal and guests do not."""
    #         user nice system idle iowait irq softirq steal guest guest_nice
    box.write(10, 2, 3, 1000, 500, 4, 1, 700, 9, 2)
    box.at_s = 100.0

    assert box.meter.sample().energy_j == 4 * 100 + 6 * 20


def test_old_kernels_have_fewer_fields(box: Box) -> None:
    """Four fields are enough."""
    box.write(1, 1, 1, 50)

    assert box.meter.sample().energy_j == 6 * 3


def test_rounding_does_not_run_backwards(box: Box) -> None:
    """A step back of a few ticks is held, in the same epoch."""
    box.write(10, 0, 0, 0)
    before = box.meter.sample()
    box.write(9.5, 0, 0, 0)
    after = box.meter.sample()

    assert after == before


def test_a_restarted_counter_is_a_new_epoch(box: Box) -> None:
    """A large step back is another counter: the two are not to be subtracted."""
    box.write(10, 0, 0, 0)
    box.meter.sample()
    box.write(2, 0, 0, 0)
    after = box.meter.sample()

    assert (after.epoch, after.energy_j) == (1, 12)


@pytest.mark.parametrize("text", ["", "cpu", "cpu 1 2 3", "cpu a b c d", "intr 5 5 5 5"])
def test_nonsense_is_a_bad_reading(box: Box, text: str) -> None:
    """Anything but the documented line is refused, not guessed."""
    box.stat.write_text(text)
    with pytest.raises(BadReading):
        box.meter.sample()


def test_no_proc_is_not_present(tmp_path: Path) -> None:
    """Without /proc/stat it says so when opened."""
    with pytest.raises(NotPresent):
        CpuTimeMeter(root=tmp_path).open()


def test_negative_power_is_a_bug() -> None:
    """A negative model is refused."""
    with pytest.raises(ValueError, match="0 or more"):
        CpuTimeMeter(core_w=-1)
