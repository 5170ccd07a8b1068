"""Several meters at once: the first bills, the others are recorded beside it.

`look` reads those that may be read now. Those that block are read in one thread of this
object's own, one after the other, so that the event loop never waits for a device. A
meter that fails is closed where it has gone, tried again after a while, and never
hides the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from drivers.crosscheck import TOLERANCE, Crosscheck
from drivers.errors import BadReading, DriverError
from drivers.instants import boottime_s
from drivers.protocols import Cadence, Meter, Sample

Result = TypeVar("Result")

RETRY_S = 60.0
"""A meter that could not be opened is left alone for so long."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the meters said, by their names.

    billed      of the meter that bills; None: not measured
    samples     of all that answered
    failed      of all that should have and did not
    disagrees   measures the same device as the meter that bills, and over the last minute
                has counted that many times as much: more than a tenth off
    """

    billed: Sample | None
    samples: Mapping[str, Sample]
    failed: Mapping[str, DriverError]
    disagrees: Mapping[str, float]


class Meters:
    """All meters of one appliance. `billing` bills. Their names differ."""

    def __init__(
        self,
        billing: Meter,
        others: Sequence[Meter] = (),
        *,
        now: Callable[[], float] = boottime_s,
    ) -> None:
        names = [meter.name for meter in (billing, *others)]
        if len(set(names)) < len(names):
            raise ValueError(f"two meters have one name: {', '.join(names)}")
        self.billing, self.others = billing, tuple(others)
        self._now = now
        self._open: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self._checks = {meter.name: Crosscheck() for meter in others}
        self._thread: ThreadPoolExecutor | None = None

    @property
    def cadence(self) -> Cadence:
        """As often as the one that has to be looked at most."""
        each = [meter.cadence for meter in (self.billing, *self.others)]
        return Cadence(
            busy_hz=max(cadence.busy_hz for cadence in each),
            moving_hz=max(cadence.moving_hz for cadence in each),
            idle_s=min(cadence.idle_s for cadence in each),
            rest_s=min(cadence.rest_s for cadence in each),
        )

    async def look(self, *, disturb: bool = True, only: Collection[str] | None = None) -> Look:
        """Read them once, opening those that are not open. One look at a time.

        disturb  False: those that would wake a suspended device, or keep it from sleep,
                 are closed and not read. They have not failed, either.
        only     names of those that are to be read; None: all
        """
        samples: dict[str, Sample] = {}
        failed: dict[str, DriverError] = {}
        for meter in (self.billing, *self.others):
            if only is not None and meter.name not in only:
                continue
            if meter.wakes_device and not disturb:
                await self._call(self._close, meter)
            elif self._now() >= self._not_before_s.get(meter.name, 0.0):
                try:
                    samples[meter.name] = await self._call(self._read, meter)
                except DriverError as error:
                    failed[meter.name] = error
        billed = samples.get(self.billing.name)
        return Look(billed, samples, failed, self._compared(samples))

    async def let_go(self) -> None:
        """Close those that would wake a suspended device, or keep it from sleep."""
        for meter in (self.billing, *self.others):
            if meter.wakes_device:
                await self._call(self._close, meter)

    async def close(self) -> None:
        """Let go of all devices. Idempotent; the next look opens them again."""
        for meter in (self.billing, *self.others):
            await self._call(self._close, meter)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _read(self, meter: Meter) -> Sample:
        try:
            if meter.name not in self._open:
                meter.open()
                self._open.add(meter.name)
            return meter.sample()
        except BadReading:
            raise
        except DriverError:
            # Gone, suspended or silent: what it was opened for may not be there any more.
            if meter.name not in self._open:
                self._not_before_s[meter.name] = self._now() + RETRY_S
            self._close(meter)
            raise

    def _close(self, meter: Meter) -> None:
        if meter.name in self._open:
            self._open.discard(meter.name)
            meter.close()

    async def _call(self, work: Callable[[Meter], Result], meter: Meter) -> Result:
        """In the thread, if it may block."""
        if not meter.blocks:
            return work(meter)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="meter")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, meter)

    def _compared(self, samples: Mapping[str, Sample]) -> dict[str, float]:
        billed = samples.get(self.billing.name)
        for meter in self.others:
            sample = samples.get(meter.name)
            if billed and sample and meter.device == self.billing.device:
                self._checks[meter.name].add(billed, sample)
        ratios = {name: check.ratio for name, check in self._checks.items()}
        return {name: r for name, r in ratios.items() if r is not None and abs(r - 1) > TOLERANCE}
