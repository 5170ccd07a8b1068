"""When the engine is started again after a failure: soon at first, then seldom.

Never at once for ever, and never never: what a person has to repair may also come right
by itself (a disk that is mounted late, a driver that is loaded late). The operator's word
ends any pause.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from appliance.clock import Clock, iso
from appliance.timers import sleep_until_or
from drivers.errors import DriverError, NotPermitted, NotPresent, NotSupported, OutOfMemory

log = logging.getLogger(__name__)

LASTING = (NotPresent, NotPermitted, NotSupported)
"""Failures that come again until a person has done something."""

SOON_S = 300.0
SELDOM_S = 3600.0
PATIENCE = 20
"""Failures in a row after which it is tried seldom: an hour and 4 minutes of trying."""
FAR_S = 30.0
"""Who waits at a connection is not kept waiting for a start that is farther away."""


def pause_s(failures: int, *, lasting: bool = False) -> float:
    """Before the next start, after so many failures in a row.

    1, 2, 4 … 300 s for an hour, then hourly; `lasting`: 1, 4, 16 minutes, then hourly.
    """
    if lasting:
        return min(60.0 * 4.0 ** min(max(0, failures - 1), 3), SELDOM_S)
    if failures > PATIENCE:
        return SELDOM_S
    return min(2.0 ** max(0, failures - 1), SOON_S)


class Retries:
    """One engine's. A failed start is `blame`d; `begin` starts the pause, `wait` spends it.

    due_at    the next start, as UTC for people; None: none is due
    failures  in a row, but for starts that did not fit and are followed by smaller ones
    lasting   the latest comes again until a person has done something
    """

    def __init__(self, clock: Clock) -> None:
        self.due_at: str | None = None
        self.failures = 0
        self.lasting = False
        self._clock = clock
        self._due_s = 0.0
        self._error: DriverError | None = None
        self._hurry = asyncio.Event()

    def worked(self) -> None:
        """It has answered a request."""
        self.failures = 0

    def blame(self, error: DriverError) -> float:
        """A start has failed with this. Seconds of the pause that will follow."""
        self._error = error
        return self._pause_s

    def begin(self) -> None:
        """It failed, or died."""
        pause_s, told = self._pause_s, self._error
        if not isinstance(told, OutOfMemory):
            self.failures += 1
        self.lasting = isinstance(told, LASTING)
        self._error = None
        self._hurry.clear()
        self._due_s = self._clock.now() + pause_s
        self.due_at = iso(self._clock.utc() + timedelta(seconds=pause_s))
        if pause_s > FAR_S:
            log.warning(
                "the next start is tried in %.0f min; `wattnap wake` tries it now", pause_s / 60
            )

    @property
    def _pause_s(self) -> float:
        if isinstance(self._error, OutOfMemory):
            return pause_s(1)  # the next one is smaller, and they come to an end
        return pause_s(self.failures + 1, lasting=isinstance(self._error, LASTING))

    @property
    def left_s(self) -> float:
        """Until the next start; 0 if none is due."""
        return max(0.0, self._due_s - self._clock.now()) if self.due_at else 0.0

    @property
    def far(self) -> bool:
        return self.left_s > FAR_S

    async def wait(self) -> None:
        """Return when the pause is over, or somebody is in a hurry."""
        await sleep_until_or(self._clock, self._due_s, self._hurry)
        self.due_at = None

    def hasten(self) -> None:
        """The operator says that it has been repaired."""
        self._hurry.set()
