"""Takes the engine up and down, and puts into the ledger what each way cost.

Which way is the lifecycle's to decide; how an engine does it, the driver's.
"""

from __future__ import annotations

import logging
from functools import partial

from appliance.attempt import LastWake
from appliance.books import Books
from appliance.clock import Clock, iso
from appliance.journal import Journal
from appliance.ledger import Transition, add, word
from drivers.errors import DriverError
from drivers.protocols import Engine, EngineFacts
from policies.ladder import Depth

log = logging.getLogger(__name__)


BACK_OFF_MAX_S = 300.0
DOUBLINGS = 9
"""Enough to pass the longest pause; days of failures must not make a number too large."""


def pause_s(failures: int) -> float:
    """Before the next start, after so many failures in a row: 1, 2, 4 … 300 s."""
    return min(2.0 ** min(max(0, failures - 1), DOUBLINGS), BACK_OFF_MAX_S)


class Moves:
    """One engine's ways up and down.

    facts            of the engine, while it has a process
    failure          why it last died or would not move; None once it woke
    expected_wake_s  what the latest wake took; before that, what was guessed
    wake             the latest climb
    """

    def __init__(
        self,
        *,
        engine: Engine,
        alias: str,
        journal: Journal,
        clock: Clock,
        books: Books,
        expected_wake_s: float,
    ) -> None:
        self.facts: EngineFacts | None = None
        self.failure: str | None = None
        self.expected_wake_s = expected_wake_s
        self.wake = LastWake()
        self._engine, self._alias = engine, alias
        self._journal, self._clock, self._books = journal, clock, books

    async def climb(self, depth: Depth, cause: str) -> None:
        """From `depth` to AWAKE. Raises DriverError: then it is off."""
        began_s, began_at = self._clock.now(), iso(self._clock.utc())
        self._books.turn("waking", depth)
        try:
            self.facts = await self._engine.start()
        except DriverError as error:
            self._arrived(began_s, began_at, depth, Depth.AWAKE, cause, error)
            log.warning("the engine did not wake: %s", error)
            self.failure = str(error)
            raise
        seconds, energy_j = self._arrived(began_s, began_at, depth, Depth.AWAKE, cause)
        log.info("awake after %.1f s", seconds)
        self.failure = None
        self.expected_wake_s = seconds
        self.wake = LastWake(self._clock.now(), energy_j)

    async def descend(self, here: Depth, depth: Depth, cause: str) -> None:
        """Take one edge. OFF is the only one yet that an engine offers."""
        began_s, began_at = self._clock.now(), iso(self._clock.utc())
        self._books.turn("entering", depth)
        await self._engine.stop()
        self.facts = None
        seconds, _ = self._arrived(began_s, began_at, here, depth, cause)
        log.info("at rest, %s, after %.1f s", word(depth), seconds)

    async def clear_away(self) -> None:
        """Remove what a death has left, and have the books say that it is off."""
        await self._engine.stop()
        self.facts = None
        if self._books.depth is not Depth.OFF:
            now_s, at = self._clock.now(), iso(self._clock.utc())
            self._arrived(now_s, at, Depth.AWAKE, Depth.OFF, "failure")

    async def end(self) -> None:
        """The daemon stops: down to OFF from wherever it is."""
        if self._books.depth is not Depth.OFF:
            await self.descend(self._books.depth, Depth.OFF, "stop")

    async def close(self) -> None:
        """Whatever happened: no engine is left, and the books are closed."""
        await self._engine.stop()
        self._books.close()
        self.record_energy()

    def checkpoint(self) -> None:
        """Put into the ledger what has been booked so far."""
        self._books.checkpoint()
        self.record_energy()

    def record_energy(self) -> None:
        for spent in self._books.rows():
            self._journal.put(partial(add, row=spent))

    def _arrived(
        self,
        began_s: float,
        began_at: str,
        here: Depth,
        to: Depth,
        cause: str,
        error: DriverError | None = None,
    ) -> tuple[float, float | None]:
        """Record a move that has ended: (seconds, joules) that it took."""
        seconds = self._clock.now() - began_s
        energy_j = self._books.turn("idle", Depth.OFF if error else to)
        row = Transition(
            engine=self._alias,
            device=self._books.device,
            at=began_at,
            ended_at=iso(self._clock.utc()),
            from_depth=word(here),
            to_depth=word(to),
            cause=cause,
            seconds=seconds,
            energy_j=energy_j,
            source=self._books.source if energy_j is not None else None,
            outcome="failed" if error else "ok",
            error=str(error) if error else None,
        )
        self._journal.put(partial(add, row=row))
        self.record_energy()
        return seconds, energy_j
