"""Several meters at once, and whether two of them agree."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.crosscheck import Crosscheck
from drivers.errors import BadReading, DriverError, NotPermitted, NotPresent, Unresponsive
from drivers.fake import FakeMeter
from drivers.meters import RETRY_S, Meters
from drivers.protocols import Cadence, Sample


class Slow(FakeMeter):
    """Blocks, and remembers in which thread it was called."""

    blocks = True

    def __init__(self, now: Callable[[], float], *, wakes: bool = False) -> None:
        super().__init__(name="slow", device="gpu", now=now)
        self.wakes_device = wakes
        self.threads: set[str] = set()

    def open(self) -> None:
        self.threads.add(threading.current_thread().name)
        super().open()

    def sample(self) -> Sample:
        self.threads.add(threading.current_thread().name)
        return super().sample()

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        super().close()


class Bench:
    """A slow meter that bills, a quick one beside it, and a clock that is set by hand."""

    def __init__(self, *, wakes: bool = False) -> None:
        self.at_s = 0.0
        self.slow = Slow(self.now, wakes=wakes)
        self.quick = FakeMeter(20.0, name="quick", device="box", now=self.now)
        self.meters = Meters(self.slow, [self.quick], now=self.now)

    def now(self) -> float:
        return self.at_s


@asynccontextmanager
async def bench(*, wakes: bool = False) -> AsyncIterator[Bench]:
    made = Bench(wakes=wakes)
    try:
        yield made
    finally:
        await made.meters.close()


async def test_one_bills_and_the_others_are_recorded() -> None:
    """Both are told by name, and only one of them is the bill."""
    async with bench() as b:
        await b.meters.look()
        b.at_s = 1.0
        look = await b.meters.look()

    assert look.billed == look.samples["slow"]
    assert {name: sample.energy_j for name, sample in look.samples.items()} == {
        "slow": 10.0,
        "quick": 20.0,
    }


async def test_what_blocks_is_never_called_on_the_loop() -> None:
    """Opened, read and closed in one and the same other thread; none is left after close()."""
    async with bench() as b:
        await b.meters.look()
        await b.meters.look()

    assert b.slow.threads == {"meter_0"}
    assert not [t for t in threading.enumerate() if t.name.startswith("meter")]


async def test_in_rest_what_would_wake_it_is_closed() -> None:
    """And the others are read on; it has not failed."""
    async with bench(wakes=True) as b:
        await b.meters.look()
        assert b.slow.opened
        look = await b.meters.look(disturb=False)

        assert not b.slow.opened
        assert (look.billed, list(look.samples), look.failed) == (None, ["quick"], {})


async def test_one_that_fails_does_not_hide_the_others() -> None:
    """Its reason is told beside what the others said."""
    async with bench() as b:
        await b.meters.look()
        b.slow.fail_next = BadReading("gpu", "says -1 W")
        look = await b.meters.look()

        assert look.billed is None
        assert list(look.samples) == ["quick"]
        assert str(look.failed["slow"]) == "gpu: says -1 W"
        assert b.slow.opened


@pytest.mark.parametrize("kind", [NotPresent, Unresponsive])
async def test_one_that_is_gone_is_opened_anew(kind: type[DriverError]) -> None:
    """At the next look: it may be another device, or another driver."""
    async with bench() as b:
        await b.meters.look()
        b.slow.fail_next = kind("gpu", "gone")
        await b.meters.look()
        assert not b.slow.opened
        look = await b.meters.look()

        assert look.billed is not None
        assert b.slow.opened


async def test_one_that_cannot_be_opened_is_left_alone_for_a_while() -> None:
    """It failed once; then, for a minute, it is not even tried."""
    async with bench() as b:
        b.slow.fail_next = NotPermitted("gpu", "not yours")
        assert list((await b.meters.look()).failed) == ["slow"]
        quiet = await b.meters.look()
        b.at_s = RETRY_S
        later = await b.meters.look()

    assert (quiet.failed, quiet.billed) == ({}, None)
    assert later.billed is not None


async def test_closed_twice() -> None:
    """close() is safe at any time."""
    meters = Meters(FakeMeter())
    await meters.close()
    await meters.close()


def test_as_often_as_the_most_eager() -> None:
    """The cadence is that of whichever has to be looked at most."""
    eager, lazy = FakeMeter(name="eager"), FakeMeter(name="lazy")
    eager.cadence = Cadence(busy_hz=10.0, moving_hz=5.0, idle_s=1.0, rest_s=60.0)
    lazy.cadence = Cadence(busy_hz=1.0, moving_hz=6.0, idle_s=10.0, rest_s=5.0)

    assert Meters(lazy, [eager]).cadence == Cadence(
        busy_hz=10.0, moving_hz=6.0, idle_s=1.0, rest_s=5.0
    )


def test_two_of_a_name_are_a_bug() -> None:
    """What they say is kept by name."""
    with pytest.raises(ValueError, match="fake, fake"):
        Meters(FakeMeter(), [FakeMeter()])


@pytest.mark.parametrize(("watts", "told"), [(10.9, None), (12.0, 1.2), (8.0, 0.8)])
async def test_two_that_disagree(watts: float, told: float | None) -> None:
    """By more than a tenth over a minute, of one device: it is said, until they agree."""
    clock = [0.0]
    counter = FakeMeter(10.0, name="counter", device="gpu", now=lambda: clock[0])
    power = FakeMeter(watts, name="power", device="gpu", now=lambda: clock[0])
    wall = FakeMeter(500.0, name="wall", device="box", now=lambda: clock[0])
    meters = Meters(counter, [power, wall])
    for clock[0] in (0.0, 59.0):
        assert (await meters.look()).disagrees == {}
    clock[0] = 61.0
    assert (await meters.look()).disagrees == ({} if told is None else {"power": told})
    power.draw(10.0)
    clock[0] = 122.0

    assert (await meters.look()).disagrees == {}


def test_nothing_is_compared_across_epochs() -> None:
    """A counter that began anew begins a new window."""
    check = Crosscheck(window_s=60.0)
    check.add(Sample(0.0, 0.0), Sample(0.0, 0.0))
    check.add(Sample(50.0, 500.0), Sample(50.0, 0.0, epoch=1))

    assert check.add(Sample(70.0, 700.0), Sample(70.0, 200.0, epoch=1)) is None
    assert check.add(Sample(110.0, 1100.0), Sample(110.0, 600.0, epoch=1)) == 1.0


def test_nothing_was_drawn() -> None:
    """Then there is no ratio."""
    check = Crosscheck(window_s=60.0)
    check.add(Sample(0.0, 0.0), Sample(0.0, 0.0))

    assert check.add(Sample(70.0, 0.0), Sample(70.0, 7.0)) is None
