"""Looks at the meters when it is time, tells the books, and has written down what they find.

The one task that reads meters. Nobody waits for it: neither a request nor a move. Where
looking may block, `drivers.meters` does it in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import timedelta

from appliance.clock import Clock, hour_of, iso
from appliance.energy.books import Books
from appliance.energy.meter_totals import MeterTotals
from appliance.energy.rounds import Rounds, at_rest
from appliance.storage.journal import Journal
from drivers.meters import Look, Meters
from drivers.protocols import Sample
from policies.ladder import Depth

log = logging.getLogger(__name__)

KEPT_S = 60.0
"""While the engine is awake, what was booked is written down so often: that much a power cut
may take. At rest, every hour."""
SOON_S = 5.0
"""But who has asked for something wants to see what it cost."""


class MeterReader:
    """Reads them for `books`; `run` it. `booked` is called once a period's joules are stored.

    not_measured  which meters do not answer now, by name, and what they say instead
    """

    def __init__(
        self,
        meters: Meters | None,
        books: Books,
        journal: Journal,
        clock: Clock,
        booked: Callable[[], None],
    ) -> None:
        self._meters, self._books = meters, books
        self._journal, self._clock, self._booked = journal, clock, booked
        each = (meters.billing, *meters.others) if meters else ()
        self._rounds = Rounds(each, late_s=books.late_s)
        self._totals = MeterTotals(each)
        self._nap: asyncio.Task[None] | None = None
        self._due_s = math.inf
        self._kept_s = clock.now()
        self._asked: list[asyncio.Future[None]] = []
        self._closing = False
        self.not_measured: dict[str, str] = {}
        self._disagrees: frozenset[str] = frozenset()
        books.stirred = self._stir

    async def run(self) -> None:
        """Until `close`."""
        async with asyncio.TaskGroup() as tasks:
            while not self._closing:
                asked, self._asked = self._asked, []
                due = self._rounds.names if asked else self._due()
                if due:
                    await self._look(due)
                self._write_down(all_of_it=bool(asked))
                _tell(asked)
                await self._rest(tasks)
        await self._look(self._rounds.names)
        self._books.close()
        self._write_down(all_of_it=True)
        if self._meters is not None:
            await self._meters.close()
        _tell(self._asked)

    def close(self) -> None:
        """Look a last time, write everything down, let go of the meters; then `run` returns."""
        self._closing = True
        self._wake()

    async def catch_up(self) -> None:
        """Return once what has happened so far was looked at, and is on its way to the ledger."""
        await self._clock.sleep_until(self._clock.now() + self._books.late_s)
        if not self._closing:
            done = asyncio.get_running_loop().create_future()
            self._asked.append(done)
            self._wake()
            await done

    async def look(self) -> Sample | None:
        """What the meter that bills says now; None: there is none, or it is not to be disturbed."""
        await self.catch_up()
        return self._books.latest

    async def checkpoint(self) -> None:
        """An hour is over: close it."""
        self._books.checkpoint()
        await self.catch_up()

    # When to look.

    def _stir(self, turned: bool) -> None:
        now_s = self._clock.now()
        if turned:
            self._rounds.turned(now_s)
        else:
            self._rounds.edge(now_s)
        if self._meters is None or self._rounds.due_s(self._books.doing) < self._due_s:
            self._wake()

    def _due(self) -> list[str]:
        return self._rounds.due(self._books.doing, self._clock.now())

    def _wake(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    async def _rest(self, tasks: asyncio.TaskGroup) -> None:
        """Until a look is due, or somebody asks for one."""
        if self._asked or self._closing:
            return
        self._due_s = self._rounds.due_s(self._books.doing)
        self._nap = tasks.create_task(self._sleep_until(self._due_s))
        await asyncio.wait((self._nap,))
        self._nap = None

    async def _sleep_until(self, at_s: float) -> None:
        if at_s == math.inf:
            await asyncio.Event().wait()
        await self._clock.sleep_until(at_s)

    # What it says.

    async def _look(self, names: list[str]) -> None:
        """Read these meters, but for those that would wake a device at rest."""
        meters, books, rounds = self._meters, self._books, self._rounds
        if meters is None:
            return
        resting, unseen = at_rest(books.doing), rounds.unseen(books.doing)
        began_s = self._clock.now()
        look = await meters.look(disturb=unseen or not resting, only=names)
        rounds.looked(names, began_s)
        # What is read as an hour ends belongs to that hour.
        hour = hour_of(self._clock.utc() - timedelta(seconds=1))
        self._totals.see(look.samples, hour)
        if look.billed is not None:
            books.take(look.billed)
        elif meters.billing.name in names:
            away = resting and meters.billing.wakes_device and not look.failed
            books.lapse() if away else books.miss()
        self._complain(look)
        if resting and unseen and at_rest(books.doing) and not rounds.unseen(books.doing):
            await meters.let_go()
            if meters.billing.wakes_device:
                books.lapse()

    def _complain(self, look: Look) -> None:
        """Of what is new."""
        for name in self._rounds.names:
            said = str(look.failed[name]) if name in look.failed else ""
            if name in look.samples and self.not_measured.pop(name, ""):
                log.info("%s: measured again", name)
            if said and said != self.not_measured.get(name):
                log.warning("not measured: %s", said)
                self.not_measured[name] = said
        for name in look.disagrees.keys() - self._disagrees:
            log.warning(
                "%s has counted %.2f times as much as the meter that bills",
                name,
                look.disagrees[name],
            )
        self._disagrees = frozenset(look.disagrees)

    # What is written down.

    def _write_down(self, *, all_of_it: bool) -> None:
        books, now_s = self._books, self._clock.now()
        awake = books.doing.line != "idle" or books.depth is Depth.AWAKE
        due = awake and now_s - self._kept_s >= (SOON_S if books.answered else KEPT_S)
        if not (all_of_it or books.pressing or due):
            return
        self._kept_s = now_s
        entries = books.entries()
        entries.metered = self._totals.taken()
        entries.learned, entries.at = books.learned.rows(), iso(self._clock.utc())
        if entries:
            self._journal.put(entries.write, self._told, may_be_lost=True)

    def _told(self, periods: int) -> None:
        if periods:
            self._booked()


def _tell(asked: list[asyncio.Future[None]]) -> None:
    for each in asked:
        if not each.done():
            each.set_result(None)
