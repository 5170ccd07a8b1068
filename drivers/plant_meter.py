"""A meter that looks at a simulated plant through a sensor with the faults of real ones.

What the sensors do was read from "Part-time power measurements" (Yang, Adamek & Armour,
SC'24: a value every 100 ms that is the mean of the last 25 ms, or of the last second;
gains of ±5 % that differ from board to board) and measured on an H200 (docs/measurements).
The rest happens to counters everywhere: they tick, wrap, begin anew and fall silent.

Shipped, for tests and for `wattnap simulate`. It uses what the real drivers use to tell a
wrap from a restart and to add up power, so that these are under test, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from drivers.continuity import Continuity
from drivers.errors import Unresponsive
from drivers.instants import boottime_s
from drivers.integral import Integral
from drivers.plant import Plant
from drivers.protocols import Cadence, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """How a plant is seen.

    kind         "counter": it counts joules by itself; "power": it says watts, and whoever
                 reads adds them up
    period_s     between two values that it publishes; 0: always the present one
    window_s     each value is the mean over that long; 0: of an instant
    phase_s      when the first one is published
    gain         what it says, divided by what is true
    wrap_j       its counter runs over there
    resets_s     when its counter begins anew from 0
    silences_s   (from, to): it does not answer
    jumps_s      (when, by how much) the clock jumps that its readings are stamped with
    """

    kind: Literal["counter", "power"] = "counter"
    period_s: float = 0.0
    window_s: float = 0.0
    phase_s: float = 0.0
    gain: float = 1.0
    wrap_j: float | None = None
    resets_s: tuple[float, ...] = ()
    silences_s: tuple[tuple[float, float], ...] = ()
    jumps_s: tuple[tuple[float, float], ...] = ()

    def spoiled(
        self, seed: int, plant: Plant, *, resets: int = 0, silences: int = 0, longest_s: float = 5.0
    ) -> Sensor:
        """With so many resets and silences, wherever `seed` puts them, and its gain within 5 %."""
        dice = random.Random(seed)  # noqa: S311 - no secret

        def whenever() -> float:
            return dice.uniform(plant.start_s, plant.end_s)

        begins_s = [whenever() for _ in range(silences)]
        return replace(
            self,
            phase_s=dice.uniform(0, self.period_s),
            gain=dice.uniform(0.95, 1.05),
            resets_s=tuple(sorted(whenever() for _ in range(resets))),
            silences_s=tuple((at, at + dice.uniform(0, longest_s)) for at in begins_s),
        )


COUNTER = Sensor(period_s=0.1, window_s=0.1)
"""An H200's energy counter: nothing is left out, and it moves every 100 ms."""

BOXCAR_25_100 = Sensor(kind="power", period_s=0.1, window_s=0.025)
"""Instant power of an A100 or H100: three quarters of the time are not seen."""

COUNTER_25_100 = Sensor(period_s=0.1, window_s=0.025)
"""A counter that adds up such values."""

TRAILING_1_S = Sensor(kind="power", period_s=0.1, window_s=1.0)
"""What NVML calls power, on Ampere and newer."""


class PlantMeter:
    """Sees `plant` through `sensor`. Its time is `now`, which may not run backwards."""

    device = "plant"
    rails: tuple[str, ...] = ()
    idle_w: float | None = None
    blocks = False

    def __init__(
        self,
        plant: Plant,
        sensor: Sensor = COUNTER,
        *,
        name: str = "plant",
        wakes_device: bool = False,
        now: Callable[[], float] = boottime_s,
    ) -> None:
        self.name, self.wakes_device = name, wakes_device
        self.source = "counter" if sensor.kind == "counter" else "integral"
        self.resolution_s = sensor.period_s
        # A counter that adds up means over less than its step is ahead by the rest of that.
        counts = sensor.kind == "counter"
        self.window_s = sensor.window_s if counts else sensor.period_s + sensor.window_s
        # As the drivers of such sensors do.
        busy_hz = 0.5 if counts else 10.0 if sensor.window_s < 1 else 2.0
        moving_hz = 5.0 if busy_hz == 2.0 else max(1.0, busy_hz)
        self.cadence = Cadence(busy_hz=busy_hz, moving_hz=moving_hz)
        self._sensor, self._now = sensor, now
        self._eye = _Eye(plant, sensor, now())
        self.most_w = 1.1 * max(1.0, sensor.gain) * plant.peak_w
        self._counter = Continuity(name, max_per_s=self.most_w, wrap=sensor.wrap_j)
        self._integral = Integral(name, max_w=self.most_w, max_gap_s=2.5 * self.cadence.rest_s)

    def open(self) -> None:
        """Nothing is acquired."""

    def sample(self) -> Sample:
        sensor, now_s = self._sensor, self._now()
        if any(start_s <= now_s < end_s for start_s, end_s in sensor.silences_s):
            raise Unresponsive(self.name, "silent, as its sensor was told to be")
        at_s = now_s + sum(by_s for when_s, by_s in sensor.jumps_s if when_s <= now_s)
        if sensor.kind == "power":
            return self._integral.add(at_s, self._eye.power_w(now_s))
        counted_j = self._counter.take(at_s, self._eye.counter_j(now_s))
        return Sample(at_s, counted_j, self._counter.epoch)

    def close(self) -> None:
        """Nothing is let go."""


class _Eye:
    """What the sensor publishes, as time goes on."""

    def __init__(self, plant: Plant, sensor: Sensor, start_s: float) -> None:
        self._plant, self._sensor = plant, sensor
        self._start_s = start_s
        self._resets_s = [at for at in sensor.resets_s if at > start_s]
        self._counted_j = self._before_reset_j = 0.0
        self._tick = self._last_tick(start_s)

    def power_w(self, now_s: float) -> float:
        return self._mean_w(
            self._tick_s(self._last_tick(now_s)) if self._sensor.period_s else now_s
        )

    def counter_j(self, now_s: float) -> float:
        """To be asked in order of time."""
        while self._resets_s and self._resets_s[0] <= now_s:
            self._before_reset_j = self._total_j(self._resets_s.pop(0))
        counted_j = self._total_j(now_s) - self._before_reset_j
        return counted_j % self._sensor.wrap_j if self._sensor.wrap_j else counted_j

    def _total_j(self, now_s: float) -> float:
        sensor, plant = self._sensor, self._plant
        if not sensor.period_s:
            return sensor.gain * (plant.energy_j(now_s) - plant.energy_j(self._start_s))
        last = self._last_tick(now_s)
        while self._tick < last:
            at_s = self._tick_s(self._tick + 1)
            ticks = 1
            # All that is published while power stands still is the same.
            steady_s = plant.steady_until(at_s - sensor.window_s)
            if steady_s > at_s:
                until = min(last, self._last_tick(min(steady_s, now_s)))
                ticks = max(1, until - self._tick)
            self._counted_j += ticks * sensor.period_s * self._mean_w(at_s)
            self._tick += ticks
        return self._counted_j

    def _mean_w(self, at_s: float) -> float:
        sensor, plant = self._sensor, self._plant
        if not sensor.window_s:
            return sensor.gain * plant.power_w(at_s)
        seen_j = plant.energy_j(at_s) - plant.energy_j(at_s - sensor.window_s)
        return max(0.0, sensor.gain * seen_j / sensor.window_s)

    def _last_tick(self, now_s: float) -> int:
        if not self._sensor.period_s:
            return 0
        return math.floor((now_s - self._sensor.phase_s) / self._sensor.period_s)

    def _tick_s(self, tick: int) -> float:
        return self._sensor.phase_s + tick * self._sensor.period_s
