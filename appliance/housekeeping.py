"""Once an hour: close the hour in the books, and drop what is kept no longer.

Full hours of local time, so that in the ledger days are exact, in each zone. A power cut
takes an hour of rest at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from appliance.clock import Clock, hour_of, iso
from appliance.energy.meter_reader import MeterReader
from appliance.errors import StorageFailed
from appliance.storage import inbox, rollup
from appliance.storage.store import Store

log = logging.getLogger(__name__)

HOUR_S = 3600.0
JUMP_S = 60.0
"""So much further by the wall than since boot, from one hour to the next: it was wrong before."""
UNSYNCED_S = 86400.0
"""After so long a time without it, no NTP is to be expected: this box has the time it has."""


class Housekeeping:
    def __init__(
        self,
        *,
        store: Store,
        reader: MeterReader,
        clock: Clock,
        keep_answers_s: float,
        keep_ids_s: float,
        keep_requests_s: float,
        keep_hours_s: float,
        jumped: Callable[[], object],
    ) -> None:
        """`jumped`: is called when the clock on the wall was found to be set."""
        self._store, self._reader, self._clock = store, reader, clock
        self._keep_answers_s = keep_answers_s
        self._keep_ids_s = max(keep_ids_s, keep_answers_s)
        self._keep_requests_s, self._keep_hours_s = keep_requests_s, keep_hours_s
        self._jumped = jumped
        self._booted = self._boot()
        self._doubtful_until_s = 0.0

    async def run(self) -> None:
        """Work at every full hour, until cancelled."""
        while True:
            now = self._clock.utc()
            over = now - datetime.fromisoformat(hour_of(now))
            await self._clock.sleep_until(self._clock.now() + HOUR_S - over.total_seconds())
            self._look_at_the_clock()
            await self._reader.checkpoint()
            await self.forget()

    async def forget(self) -> None:
        """Drop answers, ids and rows of the ledger older than they are kept.

        Not while wall time may be wrong: one that is years ahead would drop everything.
        """
        unsettled = not self._clock.synced() and self._clock.now() < UNSYNCED_S
        if unsettled or self._clock.now() < self._doubtful_until_s:
            return
        now = self._clock.utc()
        work = partial(
            inbox.forget,
            answers_before=_ago(now, self._keep_answers_s),
            ids_before=_ago(now, self._keep_ids_s),
        )
        try:
            while await self._store.write(work):
                pass
            await self._store.write(rollup.count_the_rest)
            requests = partial(rollup.drop_requests, before=_ago(now, self._keep_requests_s))
            while await self._store.write(requests):
                pass
            hours = partial(rollup.put_hours_together, before=_ago(now, self._keep_hours_s))
            await self._store.write(hours)
        except StorageFailed as error:
            log.warning("what is old is kept for another hour: %s", error)

    def _look_at_the_clock(self) -> None:
        """Once it has jumped, windows are elsewhere; if ahead, what it had stamped seems old."""
        booted = self._boot()
        ahead, self._booted = booted - self._booted, booted
        if abs(ahead) <= timedelta(seconds=JUMP_S):
            return
        log.info("wall time has jumped by %.0f s", ahead.total_seconds())
        if ahead > timedelta():
            self._doubtful_until_s = self._clock.now() + self._keep_answers_s
        self._jumped()

    def _boot(self) -> datetime:
        """When that was, by what the clock on the wall shows now."""
        return self._clock.utc() - timedelta(seconds=self._clock.now())


def _ago(now: datetime, seconds: float) -> str:
    return iso(now - timedelta(seconds=seconds))
