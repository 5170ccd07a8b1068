"""What happens to requests, told to whoever listens: doors, live callers.

Notices are news, not truth: a listener that is slow loses the oldest ones and
can always ask the database. Answers of durable requests are never notices; they
are in the outbox until they are delivered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct


class Progress(Struct, frozen=True, kw_only=True):
    """One request moved on.

    state       "queued", "deferred", "waking", "running", "done" or "failed"
    expected_s  "waking": seconds until it runs, as far as is known; "deferred": until the
                engine is woken for it at the latest
    code        "failed": the error's code
    """

    door: str
    client: str
    id: str
    state: str
    expected_s: float | None = None
    code: str | None = None


class Part(Struct, frozen=True, kw_only=True):
    """A piece of an answer, in order. `index` counts from 0; a new attempt starts at 0."""

    door: str
    client: str
    id: str
    index: int
    text: str


class Verbatim(Struct, frozen=True):
    """What the engine wrote, unchanged: whole server-sent events. For the caller alone."""

    data: bytes


class OutboxReady(Struct, frozen=True):
    """Answers for this door are in the outbox."""

    door: str


class ApplianceChanged(Struct, frozen=True):
    """The machine's state changed; `Desk.state()` says what it is now."""


class EnergyBooked(Struct, frozen=True):
    """What an awake period has drawn is in the ledger; `Desk.energy()` says it."""


class Baking(Struct, frozen=True, kw_only=True):
    """A bake moved on, or ended.

    step      "starting", "awake", "asleep", "parked"; in the end "baked", "failed" or "stopped"
    seconds   since it began
    detail    "asleep", "baked": what a quick wake still lacks; "failed", "stopped": why
    at        "baked": when that was
    energy_j  "baked": what it took; None: not measured
    """

    step: str
    seconds: float
    detail: str = ""
    at: str | None = None
    energy_j: float | None = None


class Calibrating(Struct, frozen=True, kw_only=True):
    """A calibration moved on, or ended.

    step     "waiting" (for a bake to end), "starting", "resting", "down", "up", "as shipped"
             (without the boost switch); in the end "calibrated", "failed" or "stopped"
    depth    of the rung that is measured: at rest there, on the way down to it, or up from it
    seconds  since it began
    left_s   about how long it will go on
    detail   "failed", "stopped": why
    """

    step: str
    seconds: float
    depth: str = ""
    left_s: float = 0.0
    detail: str = ""


Notice = Progress | Part | OutboxReady | ApplianceChanged | EnergyBooked | Baking | Calibrating


class Subscription:
    """Notices in order, bounded: of too many, the oldest are dropped. Iterate it."""

    def __init__(self, limit: int) -> None:
        self._waiting: deque[Notice] = deque()
        self._limit = limit
        self._news = asyncio.Event()

    def put(self, notice: Notice) -> None:
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
        self._waiting.append(notice)
        self._news.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Notice:
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


class Notices:
    """Hands each notice to every subscription that wants it. Never blocks."""

    def __init__(self) -> None:
        self._wanted: dict[Subscription, Callable[[Notice], bool]] = {}

    def tell(self, notice: Notice) -> None:
        for subscription, wants in self._wanted.items():
            if wants(notice):
                subscription.put(notice)

    @contextmanager
    def subscribed(
        self, wants: Callable[[Notice], bool], *, limit: int = 10_000
    ) -> Iterator[Subscription]:
        """Listen from now on, until the context is left."""
        subscription = Subscription(limit)
        self._wanted[subscription] = wants
        try:
            yield subscription
        finally:
            del self._wanted[subscription]
