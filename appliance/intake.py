"""The desk that all doors share: what may be asked of the appliance.

A durable request is in the roster only after its commit. Where the engine is
awake and has a place, it is committed as running already: one commit between
the sender and the engine, not two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any

from appliance.clock import Clock, iso, seconds_between
from appliance.desk import Answer, Calibrate, Delivery, Outgoing, Receipt, Told
from appliance.errands.bake import Bake
from appliance.errands.calibration import Calibration
from appliance.errands.errand import Errands
from appliance.errors import (
    ApplianceError,
    BadRequest,
    Cancelled,
    Conflict,
    InboxFull,
    Interrupted,
    StorageFailed,
    UnknownModel,
)
from appliance.ids import new_id
from appliance.machine.deferral import Deferral
from appliance.machine.lifecycle import State
from appliance.machine.roster import Entry, Roster
from appliance.machine.supervisor import Supervisor
from appliance.notices import Notices, OutboxReady, Progress
from appliance.replies import LiveReply
from appliance.reports import totals
from appliance.reports.totals import Totals
from appliance.request import ID, Request
from appliance.standing import Standing
from appliance.storage import inbox, ledger
from appliance.storage.inbox import Instant, Waiting
from appliance.storage.journal import Journal
from appliance.storage.store import Store
from policies.ladder import Depth

log = logging.getLogger(__name__)


class Intake:
    """Implements `appliance.desk.Desk`."""

    def __init__(
        self,
        *,
        alias: str,
        device: str,
        source: str | None,
        not_measured: Mapping[str, str],
        store: Store,
        journal: Journal,
        roster: Roster,
        supervisor: Supervisor,
        bake: Bake,
        calibration: Calibration,
        errands: Errands,
        standing: Standing,
        deferral: Deferral,
        notices: Notices,
        clock: Clock,
        max_waiting: int,
    ) -> None:
        self.notices = notices
        self._alias, self._device, self._source = alias, device, source
        self._not_measured = not_measured
        self._store, self._journal = store, journal
        self._roster = roster
        self._supervisor = supervisor
        self._bake = bake
        self._calibration, self._standing = calibration, standing
        self._errands, self._deferral = errands, deferral
        self._clock = clock
        self._max_waiting = max_waiting
        self._accepting = 0

    async def recover(self) -> list[Entry]:
        """At start-up: everything unfinished, to be put into the roster again."""
        broken_off = await self._store.write(inbox.recover)
        now = self._instant()
        entries = []
        for row in await self._store.read(inbox.unfinished):
            deadline_at_s, restarted = _deadline(row, now)
            if restarted:
                log.warning(
                    "%s: its %g s count again from now",
                    row.id,
                    row.deadline_s,
                    extra={"request": row.id},
                )
                await self._store.write(partial(inbox.restart_deadline, seq=row.seq, when=now))
            accepted_s = _accepted_s(row, now)
            entry = _entry_of(row, accepted_s=accepted_s, deadline_at_s=deadline_at_s)
            entry.deferrable = not entry.attempts and self._deferral.wants(entry)
            entries.append(entry)
        if entries:
            log.info("%d requests wait; %d of them were running", len(entries), broken_off)
        return entries

    async def accept(
        self, request: Request, *, reply_to: bytes | None = None, delivery: Delivery | None = None
    ) -> Receipt:
        self._check(request)
        if self._supervisor.machine.state is State.CLOSED:
            raise Interrupted
        full = self._find_full()
        now, id = self._instant(), request.id or new_id(self._clock)
        entry = self._entry(request, id, now)
        entry.deferrable = self._deferral.wants(entry)
        direct = self._supervisor.has_place() and self._roster.find(entry.key) is None
        if direct:
            self._supervisor.occupy(entry)
        self._accepting += not direct
        write = self._store.write(
            partial(
                inbox.accept,
                request=request,
                id=id,
                engine=self._alias,
                when=now,
                running=direct,
                reply_to=reply_to,
                delivery=delivery,
                full=full,
            )
        )
        # What follows the commit must follow it even if the sender is gone by then.
        write.add_done_callback(partial(self._committed, entry, direct=direct))
        return await asyncio.shield(write)

    def _committed(self, entry: Entry, write: asyncio.Future[Receipt], *, direct: bool) -> None:
        self._accepting -= not direct
        if write.exception() is not None or write.result().repeated:
            if direct:
                self._supervisor.withdraw(entry)
            if write.exception() is None and write.result().answer is not None:
                self.notices.tell(OutboxReady(entry.key[0]))
            return
        entry.seq = write.result().seq
        if direct:
            # First of all: its attempt is on its way before anybody is told of it.
            entry.claimed, entry.attempts = True, 1
            self._supervisor.begin(entry)
        door, client, id = entry.key
        self.notices.tell(Progress(door=door, client=client, id=id, state="queued"))
        if direct:
            return
        entry.body = None  # it is in the database; many may wait
        state = self._supervisor.machine.state
        if entry.deferrable and state not in {State.AWAKE, State.CLOSED}:
            self._deferral.hold(entry)
        elif state is not State.CLOSED:
            self._supervisor.arrived(entry)

    @asynccontextmanager
    async def call(self, request: Request) -> AsyncIterator[AsyncIterator[Told]]:
        self._check(request)
        if (full := self._find_full()) is not None:
            raise full
        entry = self._entry(request, request.id or new_id(self._clock), self._instant())
        if self._roster.find(entry.key) is not None:
            raise Conflict(entry.id)
        entry.events = LiveReply()
        if self._supervisor.has_place():
            self._supervisor.occupy(entry)
            self._supervisor.begin(entry)
        else:
            door, client, id = entry.key
            entry.events.put(Progress(door=door, client=client, id=id, state="queued"))
            self._supervisor.arrived(entry)
        try:
            yield _told(entry.events)
        finally:
            self._supervisor.drop(entry, Cancelled())

    async def refused(self, door: str, client: str, id: str | None, error: ApplianceError) -> None:
        at = iso(self._clock.utc())
        row = ledger.RequestLine(
            request=None,
            # Whatever a sender calls its request, of any length, is not for our tables.
            id=id if id is not None and ID.fullmatch(id) else None,
            door=door,
            client=client,
            engine=self._alias,
            device=self._device,
            model=self._alias,
            klass=None,
            state="refused",
            error=error.code,
            accepted_at=at,
            ended_at=at,
        )
        try:
            await self._store.write(partial(ledger.add, row=row))
        except (StorageFailed, ValueError) as failure:  # ValueError: it is no Unicode
            log.warning("a refusal (%s) is not in the ledger: %s", error.code, failure)

    async def find(self, door: str, client: str, id: str) -> Receipt | None:
        return await self._store.read(partial(inbox.find, door=door, client=client, id=id))

    async def cancel(self, door: str, client: str, id: str) -> bool:
        entry = self._roster.find((door, client, id))
        # One whose commit is under way cannot be ended yet, and is not known to its sender.
        if entry is None or (entry.seq is None and entry.events is None):
            return False
        return self._supervisor.drop(entry, Cancelled())

    async def outgoing(self, door: str, after: int, limit: int) -> Sequence[Outgoing]:
        return await self._store.read(partial(inbox.outgoing, door=door, after=after, limit=limit))

    async def delivered(self, numbers: Sequence[int], *, settled_mids: Sequence[int] = ()) -> None:
        await self._store.write(
            partial(inbox.delivered, numbers=list(numbers), settled_mids=list(settled_mids))
        )

    async def undeliverable(self, number: int, reason: str) -> None:
        at = iso(self._clock.utc())
        await self._store.write(partial(inbox.undeliverable, number=number, reason=reason, at=at))

    async def session_lost(self) -> None:
        await self._store.write(inbox.session_lost)

    def wake(self, keep_warm_s: float = 0.0) -> None:
        self._supervisor.wake(keep_warm_s)

    def rest(self, depth: str | None = None) -> None:
        goal = self._find_rest(depth)
        self._errands.stop("the operator wants it at rest")
        self._supervisor.rest(goal)

    def _find_rest(self, depth: str | None) -> Depth:
        offered = [
            rung.depth for rung in self._supervisor.idleness.ladder if rung.depth is not Depth.AWAKE
        ]
        if depth is None:
            wanted = self._supervisor.idleness.resting
            return offered[-1] if wanted is Depth.AWAKE else wanted
        for rung in offered:
            if ledger.word(rung) == depth:
                return rung
        names = ", ".join(ledger.word(rung) for rung in offered)
        raise BadRequest(f"depth {depth!r} is not offered here; offered: {names}")

    def bake(self, *, again: bool = False) -> None:
        self._bake.ask(again=again)

    def calibrate(self, wish: Calibrate) -> AbstractContextManager[None]:
        return self._calibration.follow(wish)

    def calibration(self) -> dict[str, Any]:
        return self._calibration.result()

    async def why(self, limit: int) -> dict[str, Any]:
        return await self._standing.why(limit)

    def state(self) -> dict[str, Any]:
        return self._standing.state()

    async def totals(self) -> Totals:
        return await self._store.read(totals.read)

    async def energy(self) -> dict[str, Any]:
        """Of today nothing may be written down yet; how it is measured is known all the same."""
        told: dict[str, Any] = await self._store.read(ledger.summary)
        source = told["source"] or self._source
        return told | {"source": source, "not_measured": dict(self._not_measured)}

    def _check(self, request: Request) -> None:
        if request.model not in {None, self._alias}:
            raise UnknownModel(request.model or "", (self._alias,))

    def _find_full(self) -> InboxFull | None:
        """What one more request would be told."""
        if len(self._roster) + self._accepting < self._max_waiting:
            return None
        awake = self._supervisor.machine.state is State.AWAKE
        wake_s = 0.0 if awake else self._supervisor.expected_wake_s
        return InboxFull(self._max_waiting, max(5.0, wake_s))

    def _instant(self) -> Instant:
        return Instant(
            at=iso(self._clock.utc()),
            boot_id=self._clock.boot_id,
            boot_s=self._clock.now(),
            synced=self._clock.synced(),
        )

    def _entry(self, request: Request, id: str, now: Instant) -> Entry:
        deadline_s = request.deadline_s
        return Entry(
            key=(request.door, request.client, id),
            form=request.form,
            path=request.path,
            stream=request.stream,
            verbatim=request.verbatim,
            klass=request.klass,
            priority=request.priority,
            hops=request.hops,
            accepted_at=now.at,
            accepted_s=now.boot_s,
            deadline_s=deadline_s,
            deadline_at_s=None if deadline_s is None else now.boot_s + deadline_s,
            body=request.body,
        )


async def _told(reply: LiveReply) -> AsyncIterator[Told]:
    """Yield what a live caller sees; raise what it must be told."""
    while True:
        event = await reply.get()
        if isinstance(event, ApplianceError):
            raise event
        if isinstance(event, bytes):
            yield Answer(event)
            return
        yield event


def _entry_of(row: Waiting, *, accepted_s: float, deadline_at_s: float | None) -> Entry:
    return Entry(
        key=(row.door, row.client, row.id),
        form=row.form,
        path=row.path,
        stream=bool(row.stream),
        klass=row.klass,
        priority=row.priority,
        hops=row.hops,
        accepted_at=row.accepted_at,
        accepted_s=accepted_s,
        deadline_s=row.deadline_s,
        deadline_at_s=deadline_at_s,
        seq=row.seq,
        attempts=row.attempts,
        suspect=bool(row.suspect),
    )


def _accepted_s(row: Waiting, now: Instant) -> float:
    """When it was accepted, on this boot's clock: negative if before the boot."""
    if row.boot_id == now.boot_id:
        return row.accepted_s
    return now.boot_s - max(0.0, seconds_between(row.accepted_at, now.at))


def _deadline(row: Waiting, now: Instant) -> tuple[float | None, bool]:
    """(deadline on this boot's clock, whether it had to be restarted).

    Within one boot the boot clock knows. Across boots only wall time does, and
    only if it was right both times; else the deadline counts once more from now.
    """
    if row.deadline_s is None:
        return None, False
    if row.boot_id == now.boot_id:
        return row.accepted_s + row.deadline_s, False
    if row.synced and now.synced:
        return _accepted_s(row, now) + row.deadline_s, False
    return now.boot_s + row.deadline_s, True
