"""What every front door may ask of the appliance, and nothing more.

Doors turn a foreign protocol into these calls and back; they never see the
supervisor, the store or an engine. `appliance.intake` implements it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.notices import Notices, Part, Progress, Verbatim
from appliance.reports.totals import Totals
from appliance.request import Request


class Receipt(Struct, frozen=True, kw_only=True):
    """A durable request is accepted: committed before this was returned.

    seq       its number in the inbox
    id        the sender's, or the one made for it
    state     "waiting", "running", "done" or "failed"
    repeated  it was here before, and is not run again because of this
    answer    the stored answer, where it has ended
    """

    seq: int
    id: str
    state: str
    repeated: bool = False
    answer: bytes | None = None


class Delivery(Struct, frozen=True):
    """What recognises an MQTT message that comes again without an id.

    mid          the broker's number for it within the session
    redelivered  the broker says that it has sent it before
    """

    mid: int
    redelivered: bool


class Outgoing(Struct, frozen=True):
    """One answer to deliver. `number` names it to `delivered`.

    reply_to  what the door gave to `accept`
    answer    JSON, the same bytes for every copy
    """

    number: int
    client: str
    id: str
    reply_to: bytes
    answer: bytes
    hops: int


class Answer(Struct, frozen=True):
    """The end of a live call that was answered. JSON, the same as a durable answer."""

    payload: bytes


Told = Progress | Part | Verbatim | Answer
"""What a live caller hears."""


class Calibrate(Struct, frozen=True, kw_only=True):
    """How thoroughly the ladder is to be measured.

    cycles  how often each rung is gone to and woken from
    over_s  watts are the mean over that long
    again   also what is known already
    """

    cycles: int = 3
    over_s: float = 60.0
    again: bool = False


class Desk(Protocol):
    """Whatever reads or writes the database may raise StorageFailed."""

    notices: Notices

    async def accept(
        self, request: Request, *, reply_to: bytes | None = None, delivery: Delivery | None = None
    ) -> Receipt:
        """Take a durable request. Returns after the commit.

        `reply_to` is opaque: it comes back in `Outgoing`. None: no answer is
        put into the outbox; the sender will ask.

        Raises Conflict, Gone, InboxFull, StorageFailed, UnknownModel,
        Interrupted: then nothing was accepted.
        """
        ...

    async def find(self, door: str, client: str, id: str) -> Receipt | None:
        """What became of a durable request, as a repeat of it would be told. None: unknown.

        Raises Gone if its answer is no longer kept.
        """
        ...

    def call(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[Told]]:
        """Serve a live request: its progress and parts, or what the engine says, then its Answer.

        Not stored before it runs. Leaving the context cancels it.

        The iterator raises ApplianceError if it cannot be answered.
        """
        ...

    async def refused(self, door: str, client: str, id: str | None, error: ApplianceError) -> None:
        """Put a refusal into the ledger. Never raises ApplianceError."""
        ...

    async def cancel(self, door: str, client: str, id: str) -> bool:
        """Take a request back. False if it is unknown or has ended."""
        ...

    async def outgoing(self, door: str, after: int, limit: int) -> Sequence[Outgoing]:
        """Answers not yet delivered, oldest first, with a number above `after`."""
        ...

    async def delivered(self, numbers: Sequence[int], *, settled_mids: Sequence[int] = ()) -> None:
        """Forget these answers: whoever is responsible now has taken them.

        `settled_mids`: messages whose acknowledgement the broker has certainly
        handled, because it has answered something that we sent after it. Their
        numbers may be used again for other messages.
        """
        ...

    async def undeliverable(self, number: int, reason: str) -> None:
        """Forget this answer's address, which is none; the ledger keeps it, with the reason."""
        ...

    async def session_lost(self) -> None:
        """The broker has forgotten us: no message of the old session comes again."""
        ...

    def wake(self, keep_warm_s: float = 0.0) -> None:
        """The operator wants it awake, and to stay so for at least this long."""
        ...

    def rest(self, depth: str | None = None) -> None:
        """The operator wants it at rest as soon as nothing waits or runs.

        `depth`: "off" … as deep as that, None: as deep as the policy may.
        Raises BadRequest for a depth that is not offered.
        """
        ...

    def bake(self, *, again: bool = False) -> None:
        """The operator wants the engine's first start done now; `again`: even if it is.

        Whoever listens to Baking hears what comes of it; a bake that goes on is joined.
        """
        ...

    def calibrate(self, wish: Calibrate) -> AbstractContextManager[None]:
        """The operator wants the ladder measured, for as long as the context is not left.

        Whoever listens to Calibrating hears what comes of it; one that goes on is joined.
        """
        ...

    def calibration(self) -> dict[str, Any]:  # JSON
        """`{"rungs", "policy", "timetable", …}`: what is known by now (docs/socket.md)."""
        ...

    async def why(self, limit: int) -> dict[str, Any]:  # JSON
        """`{"timetable", "decisions", "transitions", …}`: the latest `limit` of each."""
        ...

    def state(self) -> dict[str, Any]:  # JSON
        """`{"state", "depth", "engine", "model", "waiting", "running", "since", …}`."""
        ...

    async def totals(self) -> Totals:
        """What the ledger adds up to, of all time."""
        ...

    async def energy(self) -> dict[str, Any]:  # JSON
        """`{"source", "today_j", "by_depth_j", …}`; None where it was not measured.

        `not_measured`: which meters do not answer now, and why.
        """
        ...
