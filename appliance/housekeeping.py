"""Once an hour: close the books' open row, and drop what is kept no longer.

The only thing that wakes an idle daemon by the clock. Hourly rows make days
exact in the ledger, and bound what a power cut can take from it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from appliance import inbox
from appliance.clock import Clock, iso
from appliance.errors import StorageFailed
from appliance.store import Store
from appliance.supervisor import Supervisor

log = logging.getLogger(__name__)

HOUR_S = 3600.0


class Housekeeping:
    def __init__(
        self,
        *,
        store: Store,
        supervisor: Supervisor,
        clock: Clock,
        keep_answers_s: float,
        keep_ids_s: float,
    ) -> None:
        self._store, self._supervisor, self._clock = store, supervisor, clock
        self._keep_answers_s = keep_answers_s
        self._keep_ids_s = max(keep_ids_s, keep_answers_s)

    async def run(self) -> None:
        """Work at every full hour, until cancelled."""
        while True:
            wall = self._clock.utc().timestamp()
            await self._clock.sleep_until(self._clock.now() + HOUR_S - wall % HOUR_S)
            self._supervisor.moves.checkpoint()
            await self.forget()

    async def forget(self) -> None:
        """Drop answers and ids older than they are kept."""
        now = self._clock.utc()
        work = partial(
            inbox.forget,
            answers_before=iso(now - timedelta(seconds=self._keep_answers_s)),
            ids_before=iso(now - timedelta(seconds=self._keep_ids_s)),
        )
        try:
            while await self._store.write(work):
                pass
        except StorageFailed as error:
            log.warning("old answers are kept for another hour: %s", error)
