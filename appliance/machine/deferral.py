"""Batch requests wait for a good moment: an engine that is awake anyway, or one wake for all.

They are in the inbox and in the roster like all others, and survive what those survive. What
wakes the engine for them, whichever comes first:

- there are enough of them;
- a good hour, by the tariff or by a topic; who comes within one waits SOON_S at most;
- the latest start with which all of them are in time.

That it wakes for somebody else, the supervisor sees to: they are served with him.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.average import Average
from appliance.clock import Clock
from appliance.config import Defer
from appliance.machine.roster import Entry, Roster
from appliance.machine.supervisor import Supervisor
from appliance.notices import ApplianceChanged, Notices, Progress
from appliance.power.good_hours import GoodHours
from appliance.power.ladder import Rungs
from appliance.timers import sleep_until_or

SOON_S = 3600.0
UNKNOWN_SERVICE_S = 30.0
"""What a request is thought to take before any has been served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What it takes to serve a crowd, as far as is known.

    wake_s     until the engine can serve, from its deepest rest
    service_s  of one request
    places     for requests at the engine
    margin_s   on top of all that
    """

    wake_s: float
    service_s: float
    places: int
    margin_s: float

    def need_s(self, requests: int) -> float:
        """From the order to wake until the last of them is answered, however they are ordered."""
        rounds = math.ceil(requests / self.places)
        return self.wake_s + rounds * self.service_s + self.margin_s


def latest_start_s(entries: Iterable[Entry], max_wait_s: float, pace: Pace) -> float:
    """When to wake it at the latest; math.inf if there are none. Pure.

    All of them are done by the earliest deadline, and none waits longer than `max_wait_s`
    for the engine's order to wake.
    """
    waiting = list(entries)
    ends_s = [entry.deadline_at_s for entry in waiting if entry.deadline_at_s is not None]
    by_deadline_s = min(ends_s, default=math.inf) - pace.need_s(len(waiting))
    return min([by_deadline_s, *(entry.accepted_s + max_wait_s for entry in waiting)])


class Deferral:
    """One engine's. `run` wakes it when it is time."""

    def __init__(
        self,
        config: Defer,
        *,
        most: int,
        hours: GoodHours,
        service_s: Average,
        rungs: Rungs,
        roster: Roster,
        supervisor: Supervisor,
        notices: Notices,
        clock: Clock,
    ) -> None:
        """`most`: so many are enough, whatever was configured: others need room, too."""
        self._max_wait_s, self._margin_s = config.max_wait_s, config.margin_s
        self._enough = min(config.count or most, most)
        self._hours, self._service_s, self._rungs = hours, service_s, rungs
        self._roster, self._supervisor = roster, supervisor
        self._notices, self._clock = notices, clock
        self._news = asyncio.Event()
        self._good_since_s = math.inf
        if hours.signal is not None:
            hours.signal.changed = self._news.set

    def wants(self, entry: Entry) -> bool:
        """It may wait: somebody said so, and there is time."""
        if entry.klass != "batch" or not self._max_wait_s:
            return False
        crowd = [*self._roster.deferred, entry]
        return latest_start_s(crowd, self._max_wait_s, self._pace) > self._clock.now()

    def hold(self, entry: Entry) -> None:
        """It waits from now on."""
        self._supervisor.defer(entry)
        door, client, id = entry.key
        within_s = self.latest_s - self._clock.now()
        self._notices.tell(
            Progress(
                door=door, client=client, id=id, state="deferred", expected_s=round(within_s, 1)
            )
        )
        self._news.set()

    @property
    def latest_s(self) -> float:
        """When it wakes for them at the latest; math.inf: nobody waits."""
        return latest_start_s(self._roster.deferred, self._max_wait_s, self._pace)

    async def run(self) -> None:
        """Until cancelled."""
        await self._supervisor.started.wait()
        with self._notices.subscribed(self._hear):
            while True:
                self._news.clear()
                good = self._note_hour()
                if self._roster.deferred and (why := self._due(good)):
                    self._supervisor.admit(why)
                await sleep_until_or(self._clock, self._next_s(good=bool(good)), self._news)

    def _hear(self, notice: object) -> bool:
        """What it takes to wake may be another now."""
        if isinstance(notice, ApplianceChanged):
            self._news.set()
        return False

    def _note_hour(self) -> str:
        """Why the hour is good; "" if it is not."""
        if not (good := self._hours.why()):
            self._good_since_s = math.inf
        elif self._good_since_s == math.inf:
            self._good_since_s = self._clock.now()
        return good

    def _due(self, good: str) -> str:
        """Why they are to wait no longer; "" if they are."""
        waiting, now_s = self._roster.deferred, self._clock.now()
        many = f"{len(waiting)} batch request{'s' if len(waiting) > 1 else ''}"
        if len(waiting) >= self._enough:
            return f"{many} wait, which are enough"
        if self.latest_s <= now_s:
            return f"the latest start that is in time for {many}"
        if good:
            first_s = min(entry.accepted_s for entry in waiting)
            if first_s <= self._good_since_s or now_s >= first_s + SOON_S:
                return f"{good}, and {many} wait"
        return ""

    def _next_s(self, *, good: bool) -> float:
        """When to look again."""
        waiting = self._roster.deferred
        first_s = min((entry.accepted_s for entry in waiting), default=math.inf)
        soon_s = first_s + SOON_S if good else math.inf
        return min(self.latest_s, soon_s, self._clock.now() + self._hours.changes_in_s())

    @property
    def _pace(self) -> Pace:
        known = self._service_s.count > 0
        return Pace(
            wake_s=self._rungs.longest_wake_s,
            service_s=max(1.0, self._service_s.p90 if known else UNKNOWN_SERVICE_S),
            places=self._roster.max_running,
            margin_s=self._margin_s,
        )
