"""Whether sleep can be trusted: what has gone wrong in it, and what follows.

An engine that is stopped and started is whole again, so nothing that goes wrong in LIGHT or
PARKED must go on for ever: each failure costs a cold start, while the answer that follows it
would begin the counting of failed starts anew.
"""

from __future__ import annotations

import logging
from collections import Counter, deque

from appliance.clock import Clock
from appliance.power.ladder import Rungs
from appliance.storage.ledger import word
from drivers.errors import BadReading, DriverError
from policies.ladder import Depth

log = logging.getLogger(__name__)

HOUR_S = 3600.0
SLEEPING = (Depth.LIGHT, Depth.PARKED)
"""Here the engine's process lives, and must come back as the one it was."""
MAX_RECYCLES = 2
"""Times an hour that an engine may come back from sleep as another."""
MAX_FAILURES = 3
"""Times in a row that it may not get to a depth, or not back from it."""
AGAIN_S = 6 * HOUR_S
"""Then it is tried again: whoever had the memory that it needed may be gone."""


class Doubts:
    """One engine's. Told of each way that has to do with a depth, it withdraws that depth."""

    def __init__(self, rungs: Rungs, clock: Clock) -> None:
        self._rungs, self._clock = rungs, clock
        self._recycled_s: deque[float] = deque(maxlen=MAX_RECYCLES)
        self._failures: Counter[Depth] = Counter()
        self._again_s: dict[Depth, float] = {}

    def failed(self, depth: Depth, error: DriverError) -> None:
        """The way to `depth`, or back from it."""
        if depth not in SLEEPING:
            return
        if isinstance(error, BadReading):
            self._recycled()
            return
        self._failures[depth] += 1
        if self._failures[depth] == MAX_FAILURES:
            why = f"it failed {MAX_FAILURES} times in a row: {error}"
            again_s = self._clock.now() + AGAIN_S
            for beyond in SLEEPING[SLEEPING.index(depth) :]:
                self._rungs.withdraw(beyond, why)
                self._again_s[beyond] = again_s
            log.error("%s is not offered for the next hours: %s", word(depth), why)

    def worked(self, depth: Depth) -> None:
        """It came back from `depth`, whole."""
        if depth not in SLEEPING:
            self._try_again()
            return
        for passed in SLEEPING[: SLEEPING.index(depth) + 1]:
            self._failures.pop(passed, None)

    def _recycled(self) -> None:
        """It came back as another. Too often within an hour: no more of that."""
        now_s = self._clock.now()
        self._recycled_s.append(now_s)
        if len(self._recycled_s) == MAX_RECYCLES and self._recycled_s[0] > now_s - HOUR_S:
            why = f"it came back wrong {MAX_RECYCLES} times within an hour"
            for depth in SLEEPING:
                self._rungs.withdraw(depth, why)
                self._again_s.pop(depth, None)  # what serves nonsense is not tried again
            log.error("the engine will not be put to sleep any more: %s", why)

    def _try_again(self) -> None:
        """With a fresh engine, what failed long ago."""
        for depth in [d for d, at_s in self._again_s.items() if at_s <= self._clock.now()]:
            del self._again_s[depth]
            self._failures.pop(depth, None)
            self._rungs.restore(depth)
