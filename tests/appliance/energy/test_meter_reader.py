"""The reader in a whole appliance: who is looked at when, and what is in the ledger then."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.app import running
from appliance.notices import EnergyBooked
from drivers.errors import Unresponsive
from drivers.fake import FakeEngine, FakeMeter
from drivers.meters import Meters
from drivers.protocols import Sample
from tests.benches import IDLE_S, NOTHING_BETWEEN, Bench, BrittleEngine, configured
from tests.fake_clock import FakeClock, settled

HOUR_S = 3600.0


class Counted(FakeMeter):
    """Remembers when it was looked at; and has a rail."""

    rails = ("VDD_IN",)

    def __init__(self, now: Callable[[], float], **more: Any) -> None:
        super().__init__(now=now, **more)
        self.now = now
        self.looks_s: list[float] = []

    def sample(self) -> Sample:
        self.looks_s.append(self.now())
        said = super().sample()
        return Sample(said.at_s, said.energy_j, said.epoch, {"VDD_IN": said.energy_j / 2})


class Stuck(FakeMeter):
    """Answers when it is let go."""

    blocks = True

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self.go_on = threading.Event()
        self.go_on.set()

    def sample(self) -> Sample:
        self.go_on.wait()
        return super().sample()


@asynccontextmanager
async def metered(folder: Path, *meters: FakeMeter, clock: FakeClock) -> AsyncIterator[Bench]:
    """An appliance whose engine is on or off, and these meters."""
    engine = BrittleEngine(start_s=2.0, lacks=NOTHING_BETWEEN, sleep=clock.sleep)
    chosen = Meters(meters[0], meters[1:], now=clock.now)
    async with running(configured(folder), engine, chosen, clock) as appliance:
        made = Bench(appliance, engine, meters[0], clock)
        clock.settle = made.quiet
        await made.quiet()
        yield made
        clock.settle = settled


async def test_looked_at_as_it_says(tmp_path: Path) -> None:
    """At rest every 30 s; when it wakes at once; idle every 10 s, but for the first ones."""
    clock = FakeClock()
    meter = Counted(clock.now)
    async with metered(tmp_path, meter, clock=clock) as b:
        await clock.advance(100.0)
        assert meter.looks_s == [0.0, 30.0, 60.0, 90.0]

        del meter.looks_s[:]
        b.intake.wake()
        await b.quiet()
        assert meter.looks_s == [100.0]

        await clock.advance(2.0)
        del meter.looks_s[:]
        await clock.advance(42.0)
        assert meter.looks_s == [*(float(at) for at in range(103, 113)), 122.0, 132.0, 142.0]


async def test_a_sleeping_device_is_left_alone(tmp_path: Path) -> None:
    """A meter that would wake it is closed, and opened when it wakes. No timer rings for it."""
    clock = FakeClock()
    meter = Counted(clock.now)
    meter.wakes_device = True
    async with metered(tmp_path, meter, clock=clock) as b:
        await clock.advance(HOUR_S / 2)
        assert meter.looks_s == []

        await b.send("hello")
        await clock.advance(2.0)
        assert meter.opened
        await clock.advance(IDLE_S + 1.0)
        assert not meter.opened
        del meter.looks_s[:]
        await clock.advance(HOUR_S / 4)
        assert meter.looks_s == []

        await clock.advance(HOUR_S)
        at_rest = "SELECT line, source FROM energy_by_depth WHERE depth = 'off' AND line = 'idle'"
        assert await b.rows(at_rest) == [("idle", None)]


async def test_a_period_is_in_the_ledger_when_it_is_over(tmp_path: Path) -> None:
    """Its lines, its requests complete, its wake; and whoever shows joules is told."""
    clock = FakeClock()
    meter = FakeMeter(now=clock.now)
    async with metered(tmp_path, meter, clock=clock) as b:
        b.engine.token_s = 1.0
        with b.intake.notices.subscribed(
            lambda notice: isinstance(notice, EnergyBooked), limit=9
        ) as booked:
            await b.send("one two")
            (row,) = await b.rows("SELECT final, full_j FROM requests") or [(0, None)]
            assert row == (0, None)

            await clock.advance(10.0 + IDLE_S)
            await anext(booked)

        ((final, marginal_j, wake_j, full_j, quality),) = await b.rows(
            "SELECT final, marginal_j, wake_j, full_j, quality FROM requests"
        )
        assert (final, quality) == (1, "low")  # an estimate
        assert wake_j == pytest.approx(30.0)  # 2 s, and a word for the check
        assert full_j == pytest.approx(marginal_j + 30.0)
        assert await b.rows("SELECT requests, wake_j FROM wakes") == [(1, pytest.approx(30.0))]
        await b.appliance.reader.catch_up()
        lines = dict(await b.rows("SELECT line, energy_j FROM energy_by_line"))
        assert sum(lines.values()) == pytest.approx(10.0 * clock.now())


async def test_nobody_waits_for_a_meter(tmp_path: Path) -> None:
    """It does not answer: the request does, with what is known, and says that it may change."""
    clock = FakeClock()
    meter = Stuck(clock.now)
    async with metered(tmp_path, meter, clock=clock) as b:
        meter.go_on.clear()
        await b.send("hello")
        await clock.advance(2.0)
        (answer,) = await b.answers()

        assert answer["text"] == "hello"
        assert answer["energy"] == {
            "marginal_j": None, "wake_j": None, "source": "estimate", "final": False
        }  # fmt: skip
        meter.go_on.set()


async def test_meters_beside_it_are_recorded(tmp_path: Path) -> None:
    """By meter, device and rail; what they say is no line of the ledger."""
    clock = FakeClock()
    meter = Counted(clock.now)
    plug = FakeMeter(25.0, name="plug", device="wall", now=clock.now)
    async with metered(tmp_path, meter, plug, clock=clock) as b:
        await clock.advance(HOUR_S)
        found = await b.rows("SELECT meter, device, rail, seconds, energy_j FROM energy_by_meter")

        assert sorted(found) == [
            ("fake", "box", "", HOUR_S, pytest.approx(10 * HOUR_S)),
            ("fake", "box", "VDD_IN", HOUR_S, pytest.approx(5 * HOUR_S)),
            ("plug", "wall", "", HOUR_S, pytest.approx(25 * HOUR_S)),
        ]
        assert await b.rows("SELECT device, energy_j FROM energy_by_depth") == [
            ("box", pytest.approx(10 * HOUR_S))
        ]


async def test_what_is_amiss_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And that it is well again; what it counted meanwhile is not lost."""
    clock = FakeClock()
    meter = FakeMeter(now=clock.now)
    caplog.set_level(logging.INFO, "appliance.energy.meter_reader")
    async with metered(tmp_path, meter, clock=clock) as b:
        for _ in range(2):
            meter.fail_next = Unresponsive("fake", "gone")
            await clock.advance(30.0)
        told = await b.intake.energy()
        assert told["not_measured"] == {"fake": "fake: gone"}
        await clock.advance(70.0)
        await b.appliance.reader.catch_up()
        told = await b.intake.energy()
        assert told["not_measured"] == {}

        assert [record.message for record in caplog.records] == [
            "not measured: fake: gone",
            "fake: measured again",
        ]
        assert await b.rows("SELECT energy_j, unmeasured_s FROM energy_by_depth") == [
            (pytest.approx(10.0 * clock.now()), 0.0)
        ]


async def test_an_idle_engine_s_floor_is_soon_known(tmp_path: Path) -> None:
    """The look with which its tail is over begins the stretch that teaches it."""
    clock = FakeClock()
    async with metered(tmp_path, FakeMeter(now=clock.now), clock=clock) as b:
        await b.send("hello")
        await clock.advance(2.0 + 21.0)
        await b.appliance.reader.catch_up()

        assert await b.rows(
            "SELECT value FROM learned WHERE name = 'floor_w' AND of = 'awake'"
        ) == [(pytest.approx(10.0),)]


async def test_the_next_daemon_knows_the_floors(tmp_path: Path) -> None:
    """What was learned is kept; what a dead daemon left unfinished is not waited for."""
    clock = FakeClock()
    async with metered(tmp_path, FakeMeter(now=clock.now), clock=clock) as b:
        await b.send("hello")
        await clock.advance(2.0 + IDLE_S / 2)
    async with metered(tmp_path, FakeMeter(now=clock.now), clock=clock) as b:
        floors = dict(await b.rows("SELECT of, value FROM learned WHERE name = 'floor_w'"))

        assert floors == {"awake": pytest.approx(10.0)}
        assert await b.rows("SELECT final FROM requests") == [(1,)]


async def test_without_a_meter_nothing_is_measured(tmp_path: Path) -> None:
    """Seconds are in the ledger; joules are NULL, and the answer says so."""
    clock = FakeClock()
    engine = FakeEngine(lacks=NOTHING_BETWEEN, sleep=clock.sleep)
    async with running(configured(tmp_path), engine, None, clock) as appliance:
        b = Bench(appliance, BrittleEngine(), FakeMeter(), clock)
        clock.settle = b.quiet
        await b.send("hello")
        await clock.advance(2 * IDLE_S)
        (answer,) = await b.answers()
        joules = "SELECT marginal_j, wake_j, full_j, energy_source, final FROM requests"

        assert answer["energy"]["marginal_j"] is None
        assert await b.rows(joules) == [(None, None, None, None, 1)]
        ((seconds, energy_j),) = await b.rows(
            "SELECT sum(seconds), sum(energy_j) FROM energy_by_line"
        )
        assert (seconds, energy_j) == (pytest.approx(IDLE_S, abs=1.0), None)
        clock.settle = settled
