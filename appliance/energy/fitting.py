"""Finds the gain and the offset of a meter from a plug, at two loads that hold still.

    plug = gain × meter + offset

What the meter sees (a GPU, say) is a part of what the plug sees; the fit is as good as the
rest of the box is steady. Two loads make a line whatever they are, so what makes it
doubtful is refused: loads that are too near to one another, that do not hold still, or that
only one of the two has seen.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from appliance.clock import Clock, SystemClock
from appliance.config import Config, MeterKind
from appliance.doors.mqtt_feed import Feed
from appliance.energy.metering import build_meter
from appliance.errors import ConfigError, NotFitted
from drivers.meters import Meters
from drivers.plug import PlugMeter
from drivers.probe import probe
from drivers.protocols import Meter, Sample

LOOK_S = 1.0
LATEST = 10
PATIENCE_S = 330.0
"""Longest wait for the plug's first message: Tasmota says something each 300 s (TelePeriod)."""
BROKER_S = 5.0
"""For the broker to take us."""
MESSAGES = 4
"""Fewer of the plug's within one load say too little."""

LEAST_W = 5.0
LEAST_SHARE = 0.1
"""By so much the loads must differ, as the plug sees them."""
STEADY = 0.05
"""By so much of the difference a load may drift from its first half to its second."""
GAINS = (0.5, 3.0)
"""Outside of this, the plug does not feed what the meter measures, or not alone."""


Which = Literal["low", "high"]
WHICH: tuple[Which, ...] = ("low", "high")

Looked = Callable[[float, float | None, float | None], None]
"""`Conduct.looked`."""


def unwatched(left_s: float, meter_w: float | None, plug_w: float | None) -> None:
    """Nobody looks on."""


class Load(Struct, frozen=True, kw_only=True):
    """What both saw, for a while. drift_w: of the plug, from the first half to the second."""

    meter_w: float
    plug_w: float
    drift_w: float = 0.0
    messages: int = 0
    seconds: float = 0.0


class Fit(Struct, frozen=True, kw_only=True):
    """The line. The errors are what the drifts of both loads leave open."""

    gain: float
    gain_error: float
    offset_w: float
    offset_error_w: float


def fit(low: Load, high: Load) -> Fit:
    """Raises NotFitted if the line through the two would mean little."""
    more_w, counted_w = high.plug_w - low.plug_w, high.meter_w - low.meter_w
    if more_w < max(LEAST_W, LEAST_SHARE * high.plug_w):
        raise NotFitted(
            f"the plug saw {low.plug_w:.1f} W and then {high.plug_w:.1f} W: the second load must"
            f" be at least {max(LEAST_W, LEAST_SHARE * high.plug_w):.0f} W above the first"
        )
    for name, load in (("first", low), ("second", high)):
        if abs(load.drift_w) > STEADY * more_w:
            raise NotFitted(
                f"the {name} load did not hold still: from its first half to its second it went by"
                f" {load.drift_w:+.1f} W, and {STEADY * more_w:.1f} W may be; wait longer before it"
                " (--settle), measure for longer (--seconds), or take a steadier one"
            )
    if counted_w <= 0 or not GAINS[0] <= (gain := more_w / counted_w) <= GAINS[1]:
        raise NotFitted(
            f"the plug saw {more_w:.1f} W more, the meter {counted_w:.1f} W: does this plug feed"
            " what the meter measures, and was it that which worked?"
        )
    gain_error = math.hypot(low.drift_w, high.drift_w) / counted_w
    return Fit(
        gain=gain,
        gain_error=gain_error,
        offset_w=low.plug_w - gain * low.meter_w,
        offset_error_w=math.hypot(low.drift_w, gain_error * low.meter_w),
    )


class Trial:
    """Looks at a meter and a plug, again and again. The plug is fed by somebody else."""

    def __init__(self, meter: Meter, plug: Meter, clock: Clock) -> None:
        self._meter, self._plug, self._clock = meter, plug, clock
        self._meters = Meters(meter, [plug], now=clock.now)

    async def hear(self) -> None:
        """Return when the plug has spoken. Raises NotFitted if it is silent, or no meter there."""
        until_s = self._clock.now() + PATIENCE_S
        while failed := (await self._meters.look()).failed:
            error = failed.get(self._meter.name) or failed[self._plug.name]
            if self._meter.name in failed or self._clock.now() >= until_s:
                raise NotFitted(str(error)) from error
            await self._clock.sleep_until(self._clock.now() + LOOK_S)

    async def measure(self, seconds: float, looked: Looked = unwatched) -> Load:
        """One load, from now on. Raises NotFitted if it cannot be measured."""
        seen: dict[str, list[Sample]] = {self._meter.name: [], self._plug.name: []}
        until_s = self._clock.now() + seconds
        while self._clock.now() < until_s:
            await self._clock.sleep_until(self._clock.now() + LOOK_S)
            look = await self._meters.look()
            for name, samples in seen.items():
                if error := look.failed.get(name):
                    raise NotFitted(str(error)) from error
                # A plug's sample is as old as its last message.
                if not samples or look.samples[name].at_s > samples[-1].at_s:
                    samples.append(look.samples[name])
            meter_w, plug_w = (_latest_w(samples) for samples in seen.values())
            looked(until_s - self._clock.now(), meter_w, plug_w)
        plug = seen[self._plug.name]
        if len(plug) < MESSAGES:
            raise NotFitted(
                f"{self._plug.name}: {len(plug)} messages within {seconds:.0f} s, and"
                f" {MESSAGES} are needed; let it speak more often (docs/energy.md), or measure"
                " for longer"
            )
        middle = len(plug) // 2
        return Load(
            meter_w=_mean_w(self._meter, seen[self._meter.name]),
            plug_w=_mean_w(self._plug, plug),
            drift_w=_mean_w(self._plug, plug[middle:]) - _mean_w(self._plug, plug[: middle + 1]),
            messages=len(plug),
            seconds=plug[-1].at_s - plug[0].at_s,
        )

    async def close(self) -> None:
        await self._meters.close()


def _mean_w(meter: Meter, samples: Sequence[Sample]) -> float:
    if any(one.epoch != other.epoch for one, other in pairwise(samples)):
        raise NotFitted(f"{meter.name} began to count anew; try it again")
    if len(samples) < 2:
        raise NotFitted(f"{meter.name} said nothing new")
    return (samples[-1].energy_j - samples[0].energy_j) / (samples[-1].at_s - samples[0].at_s)


def _latest_w(samples: Sequence[Sample]) -> float | None:
    """The mean of the last few, for a plug counts by steps; None: not known yet."""
    latest = samples[-LATEST:]
    earlier, later = latest[0], latest[-1]
    if earlier is later or earlier.epoch != later.epoch:
        return None
    return (later.energy_j - earlier.energy_j) / (later.at_s - earlier.at_s)


class Conduct(Protocol):
    """Who makes the loads, and watches."""

    async def prepare(self, which: Which) -> None:
        """Return when that load is there."""
        ...

    def looked(self, left_s: float, meter_w: float | None, plug_w: float | None) -> None:
        """So much both draw now; so long it is still measured."""
        ...

    def measured(self, which: Which, load: Load) -> None:
        """That load is known."""
        ...


async def fit_meter(
    config: Config,
    kind: MeterKind,
    conduct: Conduct,
    *,
    seconds: float,
    settle_s: float,
    meter: Meter | None = None,
) -> tuple[Load, Load, Fit]:
    """Measure both loads, and find the line.

    settle_s  how long a load is let be before: plugs and NVML's power lag by seconds
    meter     instead of the one of that kind

    Raises ConfigError if there is no plug, or NotFitted; in a group, with whatever `conduct`
    raises.
    """
    if not config.energy.plug_topic:
        raise ConfigError("energy.plug_topic: which topic does the plug publish under?")
    clock = SystemClock()
    root = Path("/")
    meter = meter or build_meter(kind, config, probe(root), root)
    plug = PlugMeter(config.energy.plug_topic)
    trial = Trial(meter, plug, clock)
    # Another name than the daemon's, which the broker would else send away.
    feed = Feed(config.mqtt, name=config.name, of="fit", listener=plug, clock=clock)
    loads: list[Load] = []
    async with asyncio.TaskGroup() as tasks:
        connected = asyncio.Event()
        listening = tasks.create_task(feed.run(connected.set))
        try:
            await _connected(connected, config)
            await trial.hear()
            for which in WHICH:
                await conduct.prepare(which)
                await clock.sleep_until(clock.now() + settle_s)
                loads.append(await trial.measure(seconds, conduct.looked))
                conduct.measured(which, loads[-1])
        finally:
            listening.cancel()
            await trial.close()
    return loads[0], loads[1], fit(*loads)


async def _connected(event: asyncio.Event, config: Config) -> None:
    """A plug may be silent for minutes; the broker is there or not."""
    try:
        async with asyncio.timeout(BROKER_S):
            await event.wait()
    except TimeoutError:
        place = f"{config.mqtt.host}:{config.mqtt.port}"
        raise NotFitted(
            f"no connection to the broker at {place}, where the plug would speak:"
            " `wattnap doctor` says why"
        ) from None
