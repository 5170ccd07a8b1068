"""RAPL, from powercap trees as kernels make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.errors import BadReading, NotPermitted, NotPresent, NotSupported
from drivers.protocols import Meter
from drivers.rapl import RaplMeter
from tests.contracts.meter import MeterContract
from tests.trees import NOBODY, write

ZONES = "sys/class/powercap"
WRAP_UJ = 262_143_328_850  # of an Intel desktop; AMD's Zen: 65 532 610 987


def zone(place: str, name: str, microjoules: int, wrap_uj: int = WRAP_UJ) -> dict[str, str]:
    folder = f"{ZONES}/{place}"
    return {
        f"{folder}/name": f"{name}\n",
        f"{folder}/energy_uj": f"{microjoules}\n",
        f"{folder}/max_energy_range_uj": f"{wrap_uj}\n",
    }


# powercap/powercap#3 shows such a laptop (i7-8550U), level1techs/siomon#70 such a server.
LAPTOP = (
    zone("intel-rapl:0", "package-0", 5_000_000)
    | zone("intel-rapl:0:0", "core", 2_000_000)
    | zone("intel-rapl:0:1", "uncore", 1_000_000)
    | zone("intel-rapl:0:2", "dram", 500_000)
    | zone("intel-rapl:1", "psys", 9_000_000)
    | zone("intel-rapl-mmio:0", "package-0", 5_000_000)
    | {f"{ZONES}/intel-rapl/enabled": "1\n"}
)
SERVER = (
    zone("intel-rapl:0", "package-0", 5_000_000)
    | zone("intel-rapl:0:0", "dram", 500_000)
    | zone("intel-rapl:1", "package-1", 6_000_000)
    | zone("intel-rapl:1:0", "dram", 700_000)
)
ZEN = zone("intel-rapl:0", "package-0", 65_532_000_000, 65_532_610_987) | zone(
    "intel-rapl:0:0", "core", 100_000_000, 65_532_610_987
)


@pytest.mark.parametrize("files", [LAPTOP, SERVER, ZEN], ids=["laptop", "server", "zen"])
class TestRaplOnATree(MeterContract):
    @pytest.fixture
    def meter(self, files: dict[str, str], tmp_path: Path) -> Meter:
        return RaplMeter(root=write(tmp_path, files))


class TestRapl(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        if not os.access("/sys/class/powercap/intel-rapl:0/energy_uj", os.R_OK):
            pytest.skip("no RAPL here that this user may read")
        return RaplMeter()


class Box:
    """A tree and a clock that are set by hand."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root, self.at_s = write(root, files), 0.0
        self.meter = RaplMeter(root=root, now=lambda: self.at_s)

    def say(self, place: str, text: object) -> None:
        write(self.root, {f"{ZONES}/{place}/energy_uj": f"{text}\n"})


@contextmanager
def without_root() -> Iterator[None]:
    """Root may read everything. Anybody else is left as they are."""
    us = os.geteuid()
    if us == 0:
        os.seteuid(NOBODY.uid)
    try:
        yield
    finally:
        os.seteuid(us)


@pytest.mark.parametrize(
    ("files", "rails", "joules"),
    [
        (
            LAPTOP,
            ("package-0", "package-0/core", "package-0/uncore", "package-0/dram"),
            5.5,
        ),
        (
            SERVER,
            ("package-0", "package-0/dram", "package-1", "package-1/dram"),
            12.2,
        ),
        (ZEN, ("package-0", "package-0/core"), 65_532.0),
    ],
    ids=["laptop", "server", "zen"],
)
def test_what_belongs_to_the_total(
    tmp_path: Path, files: dict[str, str], rails: tuple[str, ...], joules: float
) -> None:
    """Packages and their memory, each once; cores are inside their package."""
    box = Box(tmp_path, files)
    box.meter.open()

    assert box.meter.rails == rails
    assert box.meter.sample().energy_j == pytest.approx(joules)


def test_a_wrap(tmp_path: Path) -> None:
    """AMD's counter runs over after 65.5 kJ: from 65 532 J to 3 J are 3.6 J, in the same epoch."""
    box = Box(tmp_path, ZEN)
    box.meter.open()
    before = box.meter.sample()
    box.at_s = 1.0
    box.say("intel-rapl:0", 3_000_000)
    after = box.meter.sample()

    assert after.epoch == before.epoch
    assert after.energy_j - before.energy_j == pytest.approx(3 + 65_532.610987 - 65_532.0)


def test_it_is_read_before_it_can_wrap_twice(tmp_path: Path) -> None:
    """At least every quarter of what a package of 1 kW would need."""
    box = Box(tmp_path, ZEN)
    box.meter.open()

    assert box.meter.cadence.rest_s == pytest.approx(65.53 / 4, rel=0.01)


def test_read_too_late(tmp_path: Path) -> None:
    """After a box has slept for an hour nobody knows how often it has wrapped."""
    box = Box(tmp_path, ZEN)
    box.meter.open()
    box.at_s = 3600.0
    box.say("intel-rapl:0", 65_532_100_000)

    # Both of its counters begin anew.
    assert box.meter.sample().epoch == 2


def test_a_reset_is_no_wrap(tmp_path: Path) -> None:
    """From 5 J to 1 J within a second would be a wrap of 262 kJ."""
    box = Box(tmp_path, LAPTOP)
    box.meter.open()
    box.at_s = 1.0
    box.say("intel-rapl:0", 1_000_000)

    assert box.meter.sample().epoch == 1


@pytest.mark.parametrize("text", ["nan", "-5000000", "", "5 J", 50_000_000_000, WRAP_UJ + 1])
def test_what_no_package_counts(tmp_path: Path, text: object) -> None:
    """Refused, and the next good reading continues from the last good one."""
    box = Box(tmp_path, LAPTOP)
    box.meter.open()
    box.at_s = 1.0
    box.say("intel-rapl:0", text)
    with pytest.raises(BadReading):
        box.meter.sample()
    box.at_s = 2.0
    box.say("intel-rapl:0", 25_000_000)
    sample = box.meter.sample()

    assert (sample.energy_j, sample.epoch) == (25.5, 0)


def test_it_says_how_to_be_permitted(tmp_path: Path) -> None:
    """The counters are root's since CVE-2020-8694, and the message has the remedy."""
    box = Box(tmp_path, LAPTOP)
    box.meter.open()
    (tmp_path / ZONES / "intel-rapl:0/energy_uj").chmod(0)
    with without_root(), pytest.raises(NotPermitted, match=r"CVE-2020-8694.*tmpfiles\.d"):
        box.meter.sample()


@pytest.mark.parametrize("files", [{}, zone("intel-rapl:0", "psys", 1), {ZONES + "/dtpm/name": ""}])
def test_no_rapl(tmp_path: Path, files: dict[str, str]) -> None:
    """Virtual machines and Arm have none."""
    with pytest.raises(NotPresent):
        Box(tmp_path, files).meter.open()


def test_a_zone_without_an_end(tmp_path: Path) -> None:
    """Its wraps could not be told from restarts."""
    with pytest.raises(NotSupported):
        Box(tmp_path, zone("intel-rapl:0", "package-0", 1, 0)).meter.open()


def test_it_vanishes(tmp_path: Path) -> None:
    """Its module can be unloaded."""
    box = Box(tmp_path, LAPTOP)
    box.meter.open()
    (tmp_path / ZONES / "intel-rapl:0/energy_uj").unlink()
    with pytest.raises(NotPresent):
        box.meter.sample()
