"""Gain and offset of a meter, from a plug at two loads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from appliance.commands.loads import running
from appliance.config import Config, Energy, Mqtt, load
from appliance.energy.fitting import PATIENCE_S, Load, Trial, fit, fit_meter
from appliance.errors import NotFitted, alone_in
from drivers.errors import NotPermitted, Unresponsive
from drivers.fake import FakeMeter
from drivers.protocols import Sample
from tests.appliance.commands import WATTNAP, wattnap
from tests.brokers import Mosquitto
from tests.fake_clock import FakeClock
from tests.senders import Sender, sender

TOPIC = "tele/box/SENSOR"


def seen(meter_w: float, plug_w: float, drift_w: float = 0.0) -> Load:
    return Load(meter_w=meter_w, plug_w=plug_w, drift_w=drift_w)


def test_the_line() -> None:
    """Through both points; what drifted leaves it so much open."""
    found = fit(seen(80, 143, 1.0), seen(400, 527, 2.0))

    assert found.gain == pytest.approx(1.2)
    assert found.offset_w == pytest.approx(47.0)
    assert found.gain_error == pytest.approx(5**0.5 / 320)
    assert 1.0 < found.offset_error_w < 1.3


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (seen(80, 143), seen(85, 149), "at least 15 W above"),
        (seen(4, 8), seen(6, 11), "at least 5 W above"),
        (seen(400, 527), seen(80, 143), "at least 14 W above"),
        (seen(80, 143, 30), seen(400, 527), "the first load did not hold still"),
        (
            seen(80, 143),
            seen(400, 527, -30),
            "second load did not hold still: from its first half to its second it went by -30.0 W",
        ),
        (seen(80, 143), seen(80, 527), "does this plug feed what the meter measures"),
        (seen(80, 143), seen(90, 527), "does this plug feed"),
        (seen(80, 143), seen(1800, 527), "does this plug feed"),
    ],
)
def test_what_gives_no_line(low: Load, high: Load, words: str) -> None:
    """Loads that are too near, that move, or that only one of the two has seen."""
    with pytest.raises(NotFitted) as raised:
        fit(low, high)

    assert words in str(raised.value)


class Spoken(FakeMeter):
    """A plug: its sample is as old as its last message, one every so often."""

    silent = False
    every_s = 1.0

    def sample(self) -> Sample:
        if self.silent:
            raise Unresponsive("plug", "has said nothing yet")
        found = super().sample()
        at_s = found.at_s // self.every_s * self.every_s
        return Sample(at_s, found.energy_j, found.epoch)


class Bench:
    """A meter and a plug, both in memory, on a clock of the test's."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.meter = FakeMeter(80.0, name="nvml", now=self.clock.now)
        self.plug = Spoken(143.0, name="plug", now=self.clock.now)
        self.trial = Trial(self.meter, self.plug, self.clock)


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        await made.trial.close()


async def test_a_load_that_holds_still() -> None:
    """The mean of both, over the same time."""
    async with bench() as b, asyncio.TaskGroup() as tasks:
        load = tasks.create_task(b.trial.measure(60))
        await b.clock.advance(61)

    found = load.result()
    assert found.meter_w == pytest.approx(80)
    assert found.plug_w == pytest.approx(143)
    assert found.drift_w == pytest.approx(0, abs=1e-9)
    assert found.messages == 60


async def test_a_load_that_drifts() -> None:
    """By how much, from the first half to the second."""
    async with bench() as b, asyncio.TaskGroup() as tasks:
        load = tasks.create_task(b.trial.measure(61))
        await b.clock.advance(31)
        b.plug.draw(163.0)
        await b.clock.advance(31)

    assert load.result().drift_w == pytest.approx(20, abs=1.5)


async def test_a_meter_that_fails_meanwhile() -> None:
    """Its own words."""
    async with bench() as b:
        measuring = asyncio.ensure_future(b.trial.measure(60))
        await b.clock.advance(10)
        b.meter.fail_next = Unresponsive("nvml", "gone")
        await b.clock.advance(10)

        with pytest.raises(NotFitted, match="gone"):
            await measuring


async def test_a_plug_that_begins_anew() -> None:
    """What it counted before cannot be compared."""
    async with bench() as b:
        measuring = asyncio.ensure_future(b.trial.measure(60))
        await b.clock.advance(10)
        b.plug.restart()
        await b.clock.advance(60)

        with pytest.raises(NotFitted, match="plug began to count anew"):
            await measuring


async def test_a_plug_that_seldom_speaks() -> None:
    """Two messages make no mean."""
    async with bench() as b:
        b.plug.every_s = 30.0
        measuring = asyncio.ensure_future(b.trial.measure(60))
        await b.clock.advance(70)

        with pytest.raises(NotFitted, match="messages within 60 s, and 4 are needed"):
            await measuring


async def test_a_plug_that_says_nothing() -> None:
    """Is waited for as long as for one that speaks every five minutes."""
    async with bench() as b:
        b.plug.silent = True
        hearing = asyncio.ensure_future(b.trial.hear())
        await b.clock.advance(PATIENCE_S - 5)
        waited = not hearing.done()
        await b.clock.advance(10)

        assert waited
        with pytest.raises(NotFitted, match="has said nothing yet"):
            await hearing


async def test_a_plug_that_speaks_at_last() -> None:
    """Is heard then."""
    async with bench() as b:
        b.plug.silent = True
        hearing = asyncio.ensure_future(b.trial.hear())
        await b.clock.advance(200)
        b.plug.silent = False
        await b.clock.advance(2)

        await hearing


async def test_a_meter_that_is_not_here() -> None:
    """Is not waited for."""
    async with bench() as b:
        b.meter.fail_next = NotPermitted("nvml", "not for this user")
        with pytest.raises(NotFitted, match="not for this user"):
            await b.trial.hear()


class Plug:
    """Publishes what is set by hand, ten times a second, as a Tasmota does."""

    def __init__(self, by: Sender) -> None:
        self.watts = 143.0
        self._by = by

    async def run(self) -> None:
        joules = 0.0
        for _ in count():
            says = {"ENERGY": {"Total": round(joules / 3.6e6, 5), "Power": self.watts}}
            await self._by.publish(TOPIC, json.dumps(says), qos=0)
            joules += self.watts * 0.1
            await asyncio.sleep(0.1)  # its pace


class Conducted:
    """Makes the loads, and remembers what it was told."""

    def __init__(self, load: Callable[[], None]) -> None:
        self.seen: list[tuple[str, Load]] = []
        self.left_s: list[float] = []
        self.now_w: list[tuple[float | None, float | None]] = []
        self._load = load

    async def prepare(self, which: str) -> None:
        if which == "high":
            self._load()

    def looked(self, left_s: float, meter_w: float | None, plug_w: float | None) -> None:
        self.left_s.append(left_s)
        self.now_w.append((meter_w, plug_w))

    def measured(self, which: str, load: Load) -> None:
        self.seen.append((which, load))


def config(broker: Mosquitto) -> Config:
    return Config(mqtt=Mqtt(port=broker.port), energy=Energy(plug_topic=TOPIC))


async def test_a_plug_on_a_real_broker(broker: Mosquitto) -> None:
    """Both loads are heard over MQTT, and the line is that of the two."""
    meter = FakeMeter(80.0, name="nvml")
    async with sender(broker.port) as someone, asyncio.TaskGroup() as tasks:
        plug = Plug(someone)
        publishing = tasks.create_task(plug.run())

        def load() -> None:
            plug.watts = 527.0
            meter.draw(400.0)

        conduct = Conducted(load)
        low, high, found = await fit_meter(
            config(broker), "nvml", conduct, seconds=6, settle_s=1.0, meter=meter
        )
        publishing.cancel()

    assert conduct.seen == [("low", low), ("high", high)]
    assert conduct.left_s[0] > conduct.left_s[1]
    meter_w, plug_w = conduct.now_w[-1]
    assert meter_w == pytest.approx(400, rel=0.05)
    assert plug_w == pytest.approx(527, rel=0.2)
    assert low.plug_w == pytest.approx(143, rel=0.2)  # a busy machine publishes late
    assert high.meter_w == pytest.approx(400, rel=0.05)
    assert found.gain == pytest.approx(1.2, rel=0.3)


async def test_at_a_terminal(broker: Mosquitto, tmp_path: Path) -> None:
    """It asks, shows how long it takes and what both draw, and Ctrl-C ends it at once."""
    file = tmp_path / "wattnap.toml"
    file.write_text(
        f'[mqtt]\nport = {broker.port}\n[energy]\nmeter = "cpu_time"\nplug_topic = "{TOPIC}"\n'
    )
    async with sender(broker.port) as someone, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(Plug(someone).run())
        seen, status = await asyncio.to_thread(
            typed,
            [*WATTNAP, "--config", str(file), "meter", "fit", "--settle", "0"],
            [("press Enter", "\n"), ("W, plug 1", "\x03")],
        )
        publishing.cancel()

    assert "measuring low: 120 s" in seen
    assert re.search(r"11\d s left, now cpu_time \d+\.\d W, plug 1\d\d\.\d W", seen)
    assert status == 130


def typed(command: list[str], script: list[tuple[str, str]]) -> tuple[str, int]:
    """At a terminal: what it shows, and its end. Whenever it has shown one, the other is typed."""
    ours, its = pty.openpty()
    seen, shown = "", 0
    command = ["setsid", "--ctty", "--wait", *command]  # else Ctrl-C is a letter like others
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        # Read until it has closed its side, which is an error here (pty(7)).
        with contextlib.suppress(OSError):
            while more := os.read(ours, 4096):
                seen += more.decode()
                if script and script[0][0] in seen[shown:]:
                    shown = len(seen)
                    os.write(ours, script.pop(0)[1].encode())
    os.close(ours)
    return seen, process.returncode


async def test_a_broker_that_is_not_there() -> None:
    """Is said at once: a plug may be silent for minutes, but not its broker."""
    with pytest.raises(ExceptionGroup) as raised:
        await fit_meter(
            Config(mqtt=Mqtt(port=1), energy=Energy(plug_topic=TOPIC)),
            "nvml",
            Conducted(lambda: None),
            seconds=10,
            settle_s=0,
            meter=FakeMeter(),
        )

    assert "no connection to the broker at 127.0.0.1:1" in str(alone_in(raised.value))


def test_what_is_printed_can_be_pasted(tmp_path: Path) -> None:
    """By hand, from a plug with a display; what was there for other meters stays."""
    file = tmp_path / "wattnap.toml"
    file.write_text("[energy]\ngain = { rapl = 1.05 }\n")
    result = wattnap(
        "meter", "fit", "nvml", "--low", "79", "143", "--high", "412", "535", config=file
    )
    _, _, pasted = result.stdout.partition("[energy]")
    file.write_text(f"[energy]{pasted}")
    energy = load(file).energy

    assert energy.gain == {"rapl": 1.05, "nvml": pytest.approx(392 / 333, rel=1e-3)}
    assert energy.offset_w == {"nvml": pytest.approx(50, abs=0.1)}


def test_for_programs(tmp_path: Path) -> None:
    """One line of JSON, with all digits."""
    file = tmp_path / "wattnap.toml"
    file.write_text('[energy]\nmeter = "rapl"\n')
    result = wattnap(
        "meter", "fit", "--low", "10", "40", "--high", "90", "130", "--json", config=file
    )
    found = json.loads(result.stdout)

    assert (found["meter"], found["fit"]["gain"]) == ("rapl", 90 / 80)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nvml"], os.EX_USAGE, "Nobody can be asked"),
        (["nvml", "--low", "1", "2"], os.EX_USAGE, "both --low and --high"),
        (["nvml", "--load", ""], os.EX_USAGE, "empty"),
        (["plug", "--low", "1", "2", "--high", "50", "100"], os.EX_USAGE, "'plug' is not one of"),
        (["nvml", "--low", "1", "2", "--high", "3", "4"], os.EX_DATAERR, "at least 5 W"),
        (["nvml", "--load", "true"], os.EX_CONFIG, "energy.plug_topic"),
    ],
)
def test_a_fit_that_cannot_be(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    """The status says whose turn it is."""
    file = tmp_path / "wattnap.toml"
    file.write_text("")
    result = wattnap("meter", "fit", *arguments, config=file)

    assert result.returncode == status
    assert words in result.stderr


def test_the_program_that_makes_the_load(tmp_path: Path) -> None:
    """It is ended with its children."""
    held = tmp_path / "held"
    os.mkfifo(held)
    with running(["sh", "-c", f"exec 9>{held}; sleep 1000 & wait"]):
        pipe = held.open()
    with pipe:
        left = pipe.read()  # comes to an end once nobody holds the other one

    assert left == ""


def test_a_program_that_ends_too_early() -> None:
    """Was no load; neither is one that is not there."""
    with pytest.raises(NotFitted, match="ended with 3"), running(["sh", "-c", "exit 3"]):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NotFitted, match="/no/such: No such file"), running(["/no/such"]):
        pass
