"""What becomes of one request: its attempt at the engine, its outcome, its ledger row.

An outcome, the answers to deliver and the row in the ledger are one commit. Who
waits at an open connection is told at once, everybody else after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from appliance import answers
from appliance.answers import EnergyShare, Timing
from appliance.average import Average
from appliance.clock import Clock, iso
from appliance.energy.books import Books
from appliance.energy.timeline import Share
from appliance.errors import ApplianceError, Cancelled, EngineRefused
from appliance.machine.roster import Entry
from appliance.machine.serving import Served, serve
from appliance.notices import Notices, OutboxReady, Part, Progress, Verbatim
from appliance.replies import LiveReply
from appliance.storage import inbox, ledger
from appliance.storage.journal import Journal
from appliance.storage.sql import Database
from drivers.protocols import Engine

log = logging.getLogger(__name__)

SERVED = 100
"""Answers of which is known how long the next one will take."""
READER_STUCK_S = 60.0
"""A caller that reads nothing for this long is not served any further."""


class Attempts:
    """Runs attempts and writes down how they end.

    service_s  what an answer takes, from its start
    """

    def __init__(
        self,
        *,
        alias: str,
        journal: Journal,
        notices: Notices,
        clock: Clock,
        books: Books,
        log_prompts: bool = False,
    ) -> None:
        self.service_s = Average(memory=SERVED)
        self._alias = alias
        self._journal, self._notices = journal, notices
        self._clock, self._books = clock, books
        self._log_prompts = log_prompts

    async def run(self, entry: Entry, engine: Engine) -> None:
        """Serve it to an outcome. Its entry stays in the roster until the caller removes it.

        Raises AttemptFailed or DriverError: then it has no outcome yet.
        """
        entry.started_s, entry.started_at = self._clock.now(), iso(self._clock.utc())
        self.tell(entry, "running")
        assert entry.body is not None
        self._log_text(entry, "asked", entry.body)
        run = self._books.begin(entry.share)
        entry.share = run.share
        served: Served | None = None
        error: ApplianceError | None = None
        try:
            served = await serve(
                engine,
                path=entry.path,
                body=entry.body,
                model=self._alias,
                priority=entry.priority,
                clock=self._clock,
                tell=None if entry.verbatim else self._teller(entry),
                relay=self._relay(entry) if entry.verbatim else None,
            )
        except EngineRefused as refusal:
            error = refusal
        except TimeoutError:
            error = Cancelled()
        finally:
            if served is not None:
                run.first_s = served.first_token_s
                if served.usage is not None:
                    run.prompt_tokens = served.usage.prompt_tokens
                    run.completion_tokens = served.usage.completion_tokens
            self._books.end(run)
        if served is not None:
            self.service_s.add(self._clock.now() - entry.started_s)
        energy = EnergyShare(
            marginal_j=self._books.guess_j(run),
            wake_j=self._books.guess_wake_j(run.share),
            source=self._books.source,
        )
        self._end(entry, served, error, energy)

    def fail(self, entry: Entry, error: ApplianceError) -> None:
        """End it with `error`."""
        self._end(entry, None, error, None)

    def tell(
        self,
        entry: Entry,
        state: str,
        *,
        expected_s: float | None = None,
        code: str | None = None,
    ) -> None:
        """Let its sender know how far it is."""
        door, client, id = entry.key
        news = Progress(
            door=door, client=client, id=id, state=state, expected_s=expected_s, code=code
        )
        self._notices.tell(news)
        if entry.events is not None and state in {"queued", "waking", "running"}:
            entry.events.put(news)

    def _teller(self, entry: Entry) -> Callable[[str], Awaitable[None]] | None:
        if not entry.stream:
            return None
        door, client, id = entry.key

        async def tell(text: str) -> None:
            part = Part(door=door, client=client, id=id, index=entry.parts, text=text)
            entry.parts += 1
            if entry.events is None:
                self._notices.tell(part)
            else:
                await _hand(entry.events, part)

        return tell

    def _relay(self, entry: Entry) -> Callable[[bytes], Awaitable[None]] | None:
        if not entry.stream or (events := entry.events) is None:
            return None

        async def relay(data: bytes) -> None:
            entry.parts += 1
            await _hand(events, Verbatim(data))

        return relay

    def _end(
        self,
        entry: Entry,
        served: Served | None,
        error: ApplianceError | None,
        energy: EnergyShare | None,
    ) -> None:
        """Commit the outcome; whoever waits learns of it."""
        entry.ended, entry.body = True, None  # who still holds the entry need not hold that
        row = self._line(entry, served, error, energy)
        if served is not None and energy is not None:
            payload = answers.answer(
                entry.id,
                self._alias,
                entry.form,
                served,
                energy,
                Timing(
                    queued_s=row.queued_s or 0.0,
                    wake_s=row.wake_s or 0.0,
                    ttft_s=row.ttft_s,
                    total_s=row.total_s or 0.0,
                ),
            )
        else:
            assert error is not None
            payload = answers.failure(entry.id, error)
        self._log_text(entry, "answered", payload)
        if entry.events is not None:
            entry.events.put(error or payload)
        if entry.share is not None:
            self._books.write(entry.share)
        if (seq := entry.seq) is None:
            _log_end(row)
            self._journal.put(partial(_add, row=row, share=entry.share), may_be_lost=True)
            return

        def commit(db: Database) -> bool:
            if not inbox.finish(db, seq, answer=payload, code=row.error, at=row.ended_at):
                return False
            _add(db, row, entry.share)
            return True

        def committed(first: bool) -> None:
            if first:
                _log_end(row)
                self.tell(entry, "failed" if error else "done", code=row.error)
                self._notices.tell(OutboxReady(entry.key[0]))

        self._journal.put(commit, committed)

    def _log_text(self, entry: Entry, what: str, text: bytes) -> None:
        if self._log_prompts:
            told = text.decode(errors="replace")
            log.info("%s %s: %s", entry.id, what, told, extra={"request": entry.id})

    def _line(
        self,
        entry: Entry,
        served: Served | None,
        error: ApplianceError | None,
        energy: EnergyShare | None,
    ) -> ledger.RequestLine:
        door, client, id = entry.key
        began_s = entry.accepted_s
        started = entry.started_s
        usage = served.usage if served else None
        first_s = served.first_token_s if served else None
        period = entry.share.period if entry.share else None
        return ledger.RequestLine(
            request=entry.seq,
            id=id,
            door=door,
            client=client,
            engine=self._alias,
            device=self._books.device,
            model=self._alias,
            klass=entry.klass,
            state="failed" if error else "done",
            error=error.code if error else None,
            accepted_at=entry.accepted_at,
            started_at=entry.started_at,
            ended_at=iso(self._clock.utc()),
            queued_s=None if started is None else started - began_s,
            wake_s=None if started is None else max(0.0, self._books.woke_s - began_s),
            ttft_s=None if first_s is None else first_s - began_s,
            total_s=self._clock.now() - began_s,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            attempts=entry.attempts,
            marginal_j=energy.marginal_j if energy else None,
            wake_j=energy.wake_j if energy else None,
            energy_source=energy.source if energy else None,
            quality="low" if energy and energy.marginal_j is not None else None,
            period=period.id if period else None,
        )


async def _hand(reply: LiveReply, piece: Part | Verbatim) -> None:
    """Let the caller have it, once it is not too far behind."""
    if not reply.has_room():
        async with asyncio.timeout(READER_STUCK_S):
            await reply.room()
    reply.put(piece)


def _log_end(row: ledger.RequestLine) -> None:
    """How it ended, and not a word of what it said."""
    told = f"{row.total_s:.1f} s"
    if row.completion_tokens is not None:
        told += f", {row.completion_tokens} tokens"
    how = row.error or row.state
    log.info("%s: %s after %s", row.id, how, told, extra={"request": row.id})


def _add(db: Database, row: ledger.RequestLine, share: Share | None) -> None:
    seq = ledger.add(db, row)
    if share is not None:
        share.row = seq  # the books complete it
