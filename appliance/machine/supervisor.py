"""The one writer. Events come in at the top; drivers are called at the bottom.

Only `run` changes the machine. Everything slow is a task whose result is the
event it owes, so the loop waits for events and never for a device. An answer
that is no longer owed, because its engine has died meanwhile, is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any

from appliance.clock import Clock, iso
from appliance.errors import ApplianceError, Expired, GaveUp, Interrupted, WakeFailed
from appliance.machine import lifecycle as lc
from appliance.machine import serving
from appliance.machine.attempt import Attempts
from appliance.machine.deadlines import Deadlines
from appliance.machine.decisions import Because, Decisions
from appliance.machine.doubts import SLEEPING
from appliance.machine.events import Events, Owed
from appliance.machine.gathering import Gathering
from appliance.machine.idleness import Idleness
from appliance.machine.moves import Moves
from appliance.machine.retries import Retries
from appliance.machine.roster import Entry, Roster
from appliance.machine.timetable import Following
from appliance.notices import ApplianceChanged, Notices
from appliance.storage import inbox
from appliance.storage.journal import Journal
from drivers.errors import DriverError, OutOfMemory
from drivers.protocols import Engine
from policies.ladder import Depth, Policy

log = logging.getLogger(__name__)


class Supervisor:
    """Moves one engine up and down, and hands it its requests.

    since  when the machine's state was last another one
    begun  attempts that have begun
    """

    def __init__(
        self,
        *,
        engine: Engine,
        policy: Policy,
        moves: Moves,
        attempts: Attempts,
        roster: Roster,
        gathering: Gathering,
        journal: Journal,
        notices: Notices,
        clock: Clock,
        max_attempts: int,
    ) -> None:
        self.machine = lc.Machine()
        self.started, self.stopped = asyncio.Event(), asyncio.Event()
        self.since = iso(clock.utc())
        self.begun = 0
        self.expected_wake_s = moves.rungs.expected_wake_s(Depth.OFF)
        self.idleness = Idleness(policy, moves.rungs.offered, clock)
        self.decisions = Decisions(clock)
        self.timetable = Following(self.idleness, clock, self.post)
        self.retries = Retries(clock)
        self.moves = moves
        self._engine, self._attempts = engine, attempts
        self._roster, self._gathering = roster, gathering
        self._journal = journal
        self._notices = notices
        self._clock = clock
        self._max_attempts = max_attempts
        self._events = Events()
        self._serving: dict[Owed, Entry] = {}
        self._move: Owed | None = None
        self._watch: Owed | None = None
        self._deadlines = Deadlines(clock, lambda e: self.drop(e, Expired(e.deadline_s or 0.0)))
        self._cause = "request"

    # What others may tell it. None of these waits.

    def arrived(self, entry: Entry) -> None:
        """A request waits: committed, or live."""
        if self.machine.state is lc.State.CLOSED:
            raise Interrupted
        self.idleness.end_gap(self.machine.depth, nobody=entry.deferrable)
        self._roster.add(entry)
        self._deadlines.watch(entry)
        self.post(lc.Arrived())
        if self.machine.state is lc.State.WAKING:
            self._tell_waking(entry)
        elif entry.seq is None and self.machine.state is lc.State.FAILED and self.retries.far:
            self.drop(entry, WakeFailed(self.moves.failure or "", self.retries.left_s))

    def defer(self, entry: Entry) -> None:
        """A request waits for an engine that is awake anyway, or for `admit`."""
        if self.machine.state is lc.State.CLOSED:
            raise Interrupted
        self._roster.defer(entry)
        self._deadlines.watch(entry)

    def admit(self, why: str) -> None:
        """Those that were deferred wake it. `why`: in words for people."""
        if self._roster.admit():
            self.post(lc.Arrived("defer", why))

    def has_place(self) -> bool:
        """A request that came now could run at once."""
        return self.machine.state is lc.State.AWAKE and self._roster.has_place()

    def occupy(self, entry: Entry) -> None:
        """Keep a place for a request that is being committed. Then `begin` or `withdraw` it."""
        self._roster.occupy(entry)
        self.post(lc.Arrived())

    def begin(self, entry: Entry) -> None:
        """It is committed as running: run it in the place that was kept for it."""
        self.idleness.end_gap(self.machine.depth, nobody=entry.deferrable)
        self._deadlines.watch(entry)
        if self.machine.state is lc.State.AWAKE:
            self._start(entry)
            return
        # The engine died meanwhile.
        assert entry.seq is not None
        entry.claimed, entry.body, entry.attempts = False, None, 0
        self._journal.put(partial(inbox.release, seq=entry.seq))
        self._roster.put_back(entry)
        self.post(lc.Arrived())

    def withdraw(self, entry: Entry) -> None:
        """It was not accepted after all."""
        self._roster.remove(entry)
        self._left()

    def drop(self, entry: Entry, error: ApplianceError) -> bool:
        """End an unfinished request with `error`. False if it has ended."""
        if entry.ended:
            return False
        task = next((t for t, e in self._serving.items() if e is entry), None)
        if task is not None:
            self._events.forget(task)
            del self._serving[task]
        if not self._roster.remove(entry):
            return False
        self._attempts.fail(entry, error)
        self._left()
        return True

    def wake(self, keep_warm_s: float) -> None:
        """The operator wants it awake, at least for that long once it is idle."""
        self.idleness.keep_warm(keep_warm_s)
        self.post(lc.WakeAsked())

    def rest(self, depth: Depth) -> None:
        """The operator wants it at rest as soon as nothing waits or runs."""
        # At rest already it has nothing to remember: the next request's idle time is its own.
        up = self.machine.state in {lc.State.AWAKE, lc.State.WAKING}
        self.idleness.wish_rest(depth if up else None)
        self.post(lc.RestAsked(depth))

    def post(self, event: lc.Event) -> None:
        """Tell the machine what happened."""
        self._events.post(event)

    async def run(self, recovered: Iterable[Entry] = ()) -> None:
        """Handle events until Closed. Then no task and no engine is left.

        `recovered`: requests that the last daemon left unfinished.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                deadlines = self._tasks.create_task(self._deadlines.run(), name="deadlines")
                for entry in recovered:
                    self._take_up(entry)
                self.started.set()
                while self.machine.state is not lc.State.CLOSED:
                    event, task = await self._events.next()
                    if isinstance(event, lc.Finished) and task is not None:
                        self._served(self._serving.pop(task))
                    self._handle(event)
                self._interrupt()
                deadlines.cancel()
            await self.moves.end()
        finally:
            await self.moves.close()
            self.stopped.set()

    def _handle(self, event: lc.Event) -> None:
        before = self.machine
        if isinstance(event, lc.Woke):
            self._roster.admit()
        self._cause = lc.cause_of(event, self._cause)
        load = self._roster.load
        self.machine, effects = lc.step(before, event, load)
        log.debug("%s %s -> %s %s", before, event, self.machine, effects)
        because = Because(event, self._cause, load.waiting, self.moves.failure or "")
        self.decisions.saw(because, effects, self.machine.goal)
        if (before.state, before.depth) != (self.machine.state, self.machine.depth):
            self.since = iso(self._clock.utc())
            self._notices.tell(ApplianceChanged())
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: lc.Effect) -> None:
        match effect:
            case lc.Wake(depth=depth):
                self.expected_wake_s = self.moves.rungs.expected_wake_s(depth)
                for entry in self._roster.waiting:
                    self._tell_waking(entry)
                self._move = self._owe(self._climb(depth, self._cause))
            case lc.Rest(here=here, depth=depth):
                self.idleness.rests()
                self._move = self._owe(self._descend(here, depth, self._cause))
            case lc.Serve():
                for entry in self._roster.take():
                    self._start(entry)
            case lc.Requeue():
                self._requeue()
            case lc.BeginIdle():
                self.decisions.planned(self.timetable.begin(self._tasks))
            case lc.EndIdle():
                self.timetable.end()
            case lc.BackOff():
                self._back_off()
            case lc.Hasten():
                self.retries.hasten()

    # Requests.

    def _take_up(self, entry: Entry) -> None:
        """One that the last daemon left: it waits again, unless it is too late for that."""
        if entry.attempts >= self._max_attempts:
            self._attempts.fail(entry, GaveUp(entry.attempts, "the daemon died"))
        elif entry.deadline_at_s is not None and entry.deadline_at_s <= self._clock.now():
            self._attempts.fail(entry, Expired(entry.deadline_s or 0.0))
        elif entry.deferrable:
            self.defer(entry)
        else:
            self.arrived(entry)

    def _start(self, entry: Entry) -> None:
        self.begun += 1
        self._serving[self._owe(self._serve(entry))] = entry

    async def _serve(self, entry: Entry) -> lc.Event:
        """One attempt, from claim to outcome. Owes Finished or Broke."""
        await self._gathering.join()
        if not entry.claimed:
            if entry.seq is not None:
                claimed = await self._journal.put(partial(inbox.claim, seq=entry.seq))
                if claimed is None:
                    entry.ended = True
                    return lc.Finished()
                entry.body, entry.attempts = claimed
                if entry.attempts > self._max_attempts:
                    # It broke with its claim on the way, and that one counts too.
                    entry.attempts = self._max_attempts
                    self._again(entry)
                    return lc.Finished()
            else:
                entry.attempts += 1
            entry.claimed = True
        try:
            await self._attempts.run(entry, self._engine)
        except DriverError as error:
            log.warning("%s: %s", entry.id, error, extra={"request": entry.id})
            entry.last_failure = self.moves.failure = str(error)
            return lc.Broke()
        except serving.AttemptFailed as error:
            log.warning("%s: %s", entry.id, error, extra={"request": entry.id})
            entry.last_failure = str(error)
            self._again(entry)
            return lc.Finished()
        self.retries.worked()
        return lc.Finished()

    def _served(self, entry: Entry) -> None:
        if entry.ended:
            self._roster.remove(entry)
            self._begin_gap()

    def _again(self, entry: Entry) -> None:
        """An attempt failed: let it wait for the next one, or give it up."""
        parts_seen = entry.events is not None and entry.parts > 0
        if entry.attempts >= self._max_attempts or parts_seen:
            self._roster.remove(entry)
            self._attempts.fail(entry, GaveUp(entry.attempts, entry.last_failure))
            self._begin_gap()
            return
        entry.claimed, entry.suspect, entry.parts = False, True, 0
        if entry.seq is not None:
            entry.body = None
            self._journal.put(partial(inbox.requeue, seq=entry.seq))
        self._roster.put_back(entry)

    def _requeue(self) -> None:
        serving_now, self._serving = self._serving, {}
        for task, entry in serving_now.items():
            self._events.forget(task)
            if entry.ended:  # its answer was whole before the engine died
                self._roster.remove(entry)
            else:
                self._again(entry)
        self._begin_gap()

    def _tell_waking(self, entry: Entry) -> None:
        self._attempts.tell(entry, "waking", expected_s=round(self.expected_wake_s, 1))

    def _left(self) -> None:
        """A request has left without having finished."""
        self._begin_gap()
        self.post(lc.Finished())

    def _begin_gap(self) -> None:
        if not self._roster.busy:
            self.idleness.begin_gap()

    # Moves.

    async def _climb(self, depth: Depth, cause: str) -> lc.Event:
        try:
            await self.moves.climb(depth, cause)
        except DriverError as error:
            pause_s = self.retries.blame(error)
            # One that did not come back from sleep may well start, and that is tried next.
            if depth not in SLEEPING and not isinstance(error, OutOfMemory):
                self._fail_live(str(error), pause_s)
            return lc.Broke()
        if self._watch is None:
            self._watch = self._owe(self._watch_engine())
        return lc.Woke()

    async def _descend(self, here: Depth, depth: Depth, cause: str) -> lc.Event:
        if depth >= Depth.STOPPED:
            self._unwatch()
        try:
            if depth is Depth.LIGHT and not await self.moves.prepare(
                lambda: lc.is_wanted(self.machine, self._roster.load)
            ):
                return lc.Woke()
            arrived = await self.moves.descend(here, depth, cause)
        except DriverError:
            return lc.Broke()
        return lc.Settled() if arrived else lc.Stayed(here)

    async def _watch_engine(self) -> lc.Event:
        try:
            await self.moves.watch()
        except DriverError as error:
            log.warning("%s", error)
            self.moves.failure = str(error)
        return lc.Broke()

    def _unwatch(self) -> None:
        self._events.forget(self._watch)
        self._watch = None

    def _back_off(self) -> None:
        self._unwatch()
        self._events.forget(self._move)
        self.retries.begin()
        self._move = self._owe(self._mend())

    async def _mend(self) -> lc.Event:
        """Clear away what is left of the engine, and let some time pass."""
        await self.moves.clear_away()
        if self.retries.far:
            await self.moves.dismiss()
        await self.retries.wait()
        if not self._roster.busy:
            await self.moves.dismiss()
        return lc.RetryDue(wanted=self.idleness.resting is Depth.AWAKE)

    def _fail_live(self, reason: str, pause_s: float) -> None:
        """Who waits at an open connection is told at once; durable requests are kept."""
        for entry in self._roster.waiting:
            if entry.seq is None:
                self.drop(entry, WakeFailed(reason, pause_s))

    # Endings.

    def _interrupt(self) -> None:
        """Give back what ran, as if it had not been claimed; tell who waits at a connection."""
        for task, entry in self._serving.items():
            self._events.forget(task)
            if entry.seq is not None:
                self._journal.put(partial(inbox.release, seq=entry.seq))
        for entry in [*self._roster.waiting, *self._roster.running]:
            if entry.seq is None and entry.events is not None:
                self._attempts.fail(entry, Interrupted())
        for owed in (self._move, self._watch):
            self._events.forget(owed)

    def _owe(self, work: Coroutine[Any, Any, lc.Event]) -> Owed:
        return self._events.owe(self._tasks, work)
