"""Takes the engine up and down, and puts into the ledger what each way cost.

Which way is the lifecycle's to decide; how an engine does it, the driver's.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from appliance.clock import Clock, iso
from appliance.energy.books import Books
from appliance.energy.timeline import Stretch
from appliance.machine.canary import Canary
from appliance.machine.doubts import SLEEPING, Doubts
from appliance.machine.faults import no_matter, unforeseen
from appliance.power.ladder import Rungs
from appliance.storage.journal import Journal
from appliance.storage.ledger import Transition, add, word
from appliance.storage.sql import Database
from drivers.errors import DriverError, NotSupported, Refused
from drivers.protocols import Engine, EngineFacts
from policies.ladder import Depth

log = logging.getLogger(__name__)


CALIBRATION = "calibrate"
UNPRICED = 20
"""Moves whose joules are waited for: a conversation may keep them from being known."""


class Passed(NamedTuple):
    """One way that was taken. `began_s`: on the boot clock."""

    here: Depth
    to: Depth
    began_s: float
    seconds: float


class Moves:
    """One engine's ways up and down.

    facts            of the engine, while it has a process
    failure          why it last died or would not move; None once it woke
    smaller          how it differs from its configuration, which did not fit
    missing          what it lacked, at its latest sleep, to wake as quickly as it can
    arrivals         how often it has arrived, by depth; at AWAKE by turning round, too
    latest           the latest way that was not failed
    rungs            the ladder; each way tells it what it took
    """

    def __init__(
        self,
        *,
        engine: Engine,
        alias: str,
        journal: Journal,
        clock: Clock,
        books: Books,
        rungs: Rungs,
        canary: Canary,
    ) -> None:
        self.facts: EngineFacts | None = None
        self.failure: str | None = None
        self.smaller: tuple[str, ...] = ()
        self.missing = ""
        self.arrivals: Counter[Depth] = Counter()
        self.latest: Passed | None = None
        self._unpriced: deque[tuple[Stretch, Passed]] = deque(maxlen=UNPRICED)
        self.rungs = rungs
        self._canary = canary
        self._doubts = Doubts(rungs, clock)
        self._engine, self._alias = engine, alias
        self._journal, self._clock, self._books = journal, clock, books

    async def climb(self, depth: Depth, cause: str) -> None:
        """From `depth` to AWAKE. Raises DriverError: then it is off."""
        began_s, began_at = self._clock.now(), iso(self._clock.utc())
        move = self._books.turn("waking", depth)
        try:
            await self._wake(depth)
        except DriverError as error:
            self._doubts.failed(depth, error)
            self._arrived(move, began_s, began_at, depth, Depth.AWAKE, cause, error)
            log.warning("the engine did not wake: %s", error)
            self.failure = str(error)
            raise
        seconds = self._arrived(move, began_s, began_at, depth, Depth.AWAKE, cause)
        log.info("awake after %.1f s", seconds, extra={"depth": word(Depth.AWAKE)})
        self.failure = None
        self._doubts.worked(depth)
        self._learn(move, Passed(depth, Depth.AWAKE, began_s, seconds), cause)

    async def _wake(self, depth: Depth) -> None:
        """Bring it up, and let it show that it is itself."""
        warm = depth in SLEEPING
        with unforeseen(self._alias):
            if warm:
                await self._engine.wake()
            else:
                self.facts = await self._engine.start()
                self._note_size(self.facts.smaller)
            assert self.facts is not None
            await self._canary.check(self.facts.identity, warm=warm)

    def _learn(self, move: Stretch, passed: Passed, cause: str) -> None:
        """What it took; and, of those before, what they cost, as far as that is known by now."""
        self.latest = passed
        self.rungs.learn(passed.here, passed.to, passed.seconds)
        if cause != CALIBRATION:  # which looks for itself, and more closely
            self._unpriced.append((move, passed))
        while self._unpriced and self._unpriced[0][0].known:
            known, past = self._unpriced.popleft()
            if (energy_j := known.energy_j) is not None:
                self.rungs.learn_cost(past.here, past.to, energy_j)

    def _note_size(self, smaller: tuple[str, ...]) -> None:
        if smaller and smaller != self.smaller:
            log.warning("smaller than configured, which did not fit: %s", ", ".join(smaller))
        self.smaller = smaller

    async def prepare(self, turn_round: Callable[[], bool]) -> bool:
        """What sleeping needs beforehand, in pieces; False: it shall turn round, and did.

        Raises DriverError: then it must be thrown away.
        """
        try:
            with unforeseen(self._alias):
                while await self._engine.prepare():
                    if turn_round():
                        self.arrivals[Depth.AWAKE] += 1
                        return False
        except DriverError as error:
            self._doubts.failed(Depth.LIGHT, error)
            log.warning("the engine did not come to rest: %s", error)
            self.failure = str(error)
            raise
        return True

    async def descend(self, here: Depth, depth: Depth, cause: str) -> bool:
        """Take one edge. False: that was refused, and it rests as well as before, in `here`.

        Raises DriverError: then it must be thrown away.
        """
        began_s, began_at = self._clock.now(), iso(self._clock.utc())
        move = self._books.turn("entering", depth)
        try:
            await self._go_down(depth)
        except DriverError as error:
            # Only of parking it is promised that an engine which is refused it sleeps on.
            stays = depth is Depth.PARKED and isinstance(error, (Refused, NotSupported))
            self._doubts.failed(depth, error)
            left_at = here if stays else Depth.OFF
            self._arrived(move, began_s, began_at, here, depth, cause, error, left_at=left_at)
            if stays:
                log.warning("the engine stays %s: %s", word(here), error)
                return False
            log.warning("the engine did not come to rest: %s", error)
            self.failure = str(error)
            raise
        seconds = self._arrived(move, began_s, began_at, here, depth, cause)
        self._learn(move, Passed(here, depth, began_s, seconds), cause)
        name = word(depth)
        log.info("at rest, %s, after %.1f s", name, seconds, extra={"depth": name})
        return True

    async def _go_down(self, depth: Depth) -> None:
        with unforeseen(self._alias):
            match depth:
                case Depth.LIGHT:
                    self.missing = await self._engine.sleep()
                case Depth.PARKED:
                    await self._engine.park()
                case Depth.STOPPED:
                    await self._stop()
                case _:
                    await self._stop()
                    await self._engine.dismiss()

    async def _stop(self) -> None:
        await self._engine.stop()
        self.facts = None

    async def watch(self) -> None:
        """Return when the engine has ended, or raise DriverError then."""
        with unforeseen(self._alias):
            await self._engine.died()

    async def clear_away(self) -> None:
        """Remove what a death has left, and have the books say that it is off.

        A warm host stays for the next start; `dismiss` it if there is to be none.
        """
        with no_matter(self._alias):
            await self._stop()
        if self._books.depth is not Depth.OFF:
            now_s, at = self._clock.now(), iso(self._clock.utc())
            self._arrived(None, now_s, at, Depth.AWAKE, Depth.OFF, "failure")

    async def dismiss(self) -> None:
        """Nobody waits: nothing is left of it."""
        with no_matter(self._alias):
            await self._engine.dismiss()

    async def end(self) -> None:
        """The daemon stops: down to OFF from wherever it is."""
        if self._books.depth is not Depth.OFF:
            await self.descend(self._books.depth, Depth.OFF, "stop")

    async def close(self) -> None:
        """Whatever happened: no engine is left."""
        await self._go_down(Depth.OFF)

    def _arrived(
        self,
        move: Stretch | None,
        began_s: float,
        began_at: str,
        here: Depth,
        to: Depth,
        cause: str,
        error: DriverError | None = None,
        left_at: Depth = Depth.OFF,
    ) -> float:
        """Record a move that has ended. Its seconds; its joules are not known yet.

        left_at  where the engine is if it failed
        """
        seconds = self._clock.now() - began_s
        self._books.turn("idle", left_at if error else to)
        if error is None:
            self.arrivals[to] += 1
        row = Transition(
            engine=self._alias,
            device=self._books.device,
            at=began_at,
            ended_at=iso(self._clock.utc()),
            from_depth=word(here),
            to_depth=word(to),
            cause=cause,
            seconds=seconds,
            energy_j=None,
            source=None,
            outcome="failed" if error else "ok",
            error=str(error) if error else None,
            smaller=None if error else ", ".join(self.smaller) or None,
            period=move.period.id if move and move.period else None,
        )
        self._journal.put(partial(_add, row=row, move=move), may_be_lost=True)
        return seconds


def _add(db: Database, row: Transition, move: Stretch | None) -> None:
    seq = add(db, row)
    if move is not None:
        move.row = seq  # the books complete it
