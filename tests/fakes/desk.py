"""A desk without an engine: keeps requests in memory and answers each with its own words."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import drivers.fake
from appliance.desk import Answer, Calibrate, Delivery, Outgoing, Receipt, Told
from appliance.errors import ApplianceError, BadRequest, Conflict
from appliance.notices import (
    ApplianceChanged,
    Baking,
    Calibrating,
    Notices,
    OutboxReady,
    Part,
    Progress,
    Verbatim,
)
from appliance.reports.totals import Totals
from appliance.request import Request
from drivers.fake import prompt_of

Key = tuple[str, str, str]


class FakeDesk:
    """Satisfies Desk.

    `held` keeps durable requests waiting until `finish`. `gate`, when clear,
    keeps live calls from going on to their next word. `fail_next` is raised by
    the next accept or call, once.
    """

    def __init__(self) -> None:
        self.notices = Notices()
        self.held = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail_next: Exception | None = None
        self.fail_find: ApplianceError | None = None
        self.break_off: ApplianceError | None = None
        """Of live calls, after their first word."""
        self.accepted: list[tuple[Request, bytes | None, Delivery | None]] = []
        self.refusals: list[tuple[str, str, str | None, ApplianceError]] = []
        self.calls: list[Request] = []
        self.ended_calls: asyncio.Queue[str] = asyncio.Queue()
        """Ids of live calls that were left, answered or not."""
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        """ "accept", "find", "call", as they come."""
        self.cancelled: list[Key] = []
        self.wakes: list[float] = []
        self.rests: list[str | None] = []
        self.bakes: list[bool] = []
        self.bakings: list[Baking] = []
        """What whoever asks for a bake is told of it."""
        self.calibrates: list[Calibrate] = []
        self.calibratings: list[Calibrating] = []
        """What whoever asks for a calibration is told of it."""
        self.begun_calibrations, self.left_calibrations = asyncio.Event(), asyncio.Event()
        self.delivered_numbers: list[int] = []
        self.undeliverables: dict[int, str] = {}
        """Numbers, and why."""
        self.settled_mids: list[int] = []
        self.sessions_lost = 0
        self._requests: dict[Key, Request] = {}
        self._receipts: dict[Key, Receipt] = {}
        self._reply_to: dict[Key, bytes | None] = {}
        self._outbox: list[Outgoing] = []
        self._made = 0

    async def accept(
        self, request: Request, *, reply_to: bytes | None = None, delivery: Delivery | None = None
    ) -> Receipt:
        self._maybe_fail()
        await asyncio.sleep(0)  # the commit
        self.heard.put_nowait("accept")
        key = (request.door, request.client, request.id or self._make_id())
        earlier = self._requests.get(key)
        if earlier is not None:
            if earlier.digest != request.digest:
                raise Conflict(key[2])
            found = self._receipts[key]
            return Receipt(
                seq=found.seq, id=found.id, state=found.state, repeated=True, answer=found.answer
            )
        self.accepted.append((request, reply_to, delivery))
        self._requests[key] = request
        self._reply_to[key] = reply_to
        receipt = Receipt(seq=len(self._requests), id=key[2], state="waiting")
        self._receipts[key] = receipt
        self.notices.tell(Progress(door=key[0], client=key[1], id=key[2], state="queued"))
        if not self.held:
            asyncio.get_running_loop().call_soon(self.finish, *key)
        return receipt

    def finish(self, door: str, client: str, id: str, error: ApplianceError | None = None) -> None:
        """Answer a durable request, or let it fail."""
        key = (door, client, id)
        request = self._requests[key]
        about: dict[str, Any] = {"door": door, "client": client, "id": id}
        self.notices.tell(Progress(**about, state="running"))
        if request.stream and error is None:
            for index, word in enumerate(_words(request)):
                self.notices.tell(Part(**about, index=index, text=word))
        answer = _answer(id, request, error)
        state = "failed" if error else "done"
        self._receipts[key] = Receipt(
            seq=self._receipts[key].seq, id=id, state=state, answer=answer
        )
        self.notices.tell(Progress(**about, state=state, code=error.code if error else None))
        reply_to = self._reply_to[key]
        if reply_to is not None:
            number = len(self._outbox) + 1
            self._outbox.append(Outgoing(number, client, id, reply_to, answer, request.hops))
            self.notices.tell(OutboxReady(door))

    async def find(self, door: str, client: str, id: str) -> Receipt | None:
        self.heard.put_nowait("find")
        await asyncio.sleep(0)
        if self.fail_find is not None:
            raise self.fail_find
        return self._receipts.get((door, client, id))

    def call(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[Told]]:
        return self._call(request)

    @contextlib.asynccontextmanager
    async def _call(self, request: Request) -> AsyncIterator[AsyncIterator[Told]]:
        self._maybe_fail()
        self.calls.append(request)
        self.heard.put_nowait("call")
        name = request.id or self._make_id()
        try:
            yield self._serve(request, name)
        finally:
            self.ended_calls.put_nowait(name)

    async def _serve(self, request: Request, id: str) -> AsyncIterator[Told]:
        about: dict[str, Any] = {"door": request.door, "client": request.client, "id": id}
        yield Progress(**about, state="waking", expected_s=20.0)
        await self.gate.wait()
        yield Progress(**about, state="running")
        parts = _events(request) if request.verbatim else _parts(request, about)
        for part in parts if request.stream or not request.verbatim else ():
            await self.gate.wait()
            yield part
            if self.break_off is not None:
                raise self.break_off
        yield Answer(_answer(id, request))

    async def refused(self, door: str, client: str, id: str | None, error: ApplianceError) -> None:
        self.refusals.append((door, client, id, error))

    async def cancel(self, door: str, client: str, id: str) -> bool:
        key = (door, client, id)
        self.cancelled.append(key)
        found = self._receipts.get(key)
        return found is not None and found.answer is None

    async def outgoing(self, door: str, after: int, limit: int) -> Sequence[Outgoing]:
        gone = {*self.delivered_numbers, *self.undeliverables}
        left = [o for o in self._outbox if o.number not in gone]
        return [o for o in left if o.number > after][:limit]

    async def delivered(self, numbers: Sequence[int], *, settled_mids: Sequence[int] = ()) -> None:
        self.delivered_numbers.extend(numbers)
        self.settled_mids.extend(settled_mids)

    async def undeliverable(self, number: int, reason: str) -> None:
        self.undeliverables[number] = reason

    async def session_lost(self) -> None:
        self.sessions_lost += 1

    def wake(self, keep_warm_s: float = 0.0) -> None:
        self.wakes.append(keep_warm_s)
        self.notices.tell(ApplianceChanged())

    def rest(self, depth: str | None = None) -> None:
        if depth not in {None, "off"}:
            raise BadRequest(f"depth {depth!r} is not offered; offered: off")
        self.rests.append(depth)
        self.notices.tell(ApplianceChanged())

    def bake(self, *, again: bool = False) -> None:
        self.bakes.append(again)
        for told in self.bakings:
            self.notices.tell(told)

    @contextlib.contextmanager
    def calibrate(self, wish: Calibrate) -> Iterator[None]:
        self.calibrates.append(wish)
        self.begun_calibrations.set()
        for told in self.calibratings:
            self.notices.tell(told)
        try:
            yield
        finally:
            self.left_calibrations.set()

    def calibration(self) -> dict[str, Any]:
        return {"rungs": [{"depth": "awake", "power_w": None}], "policy": "fixed", "timetable": []}

    async def why(self, limit: int) -> dict[str, Any]:
        return {"timetable": [], "decisions": [{"limit": limit}], "transitions": []}

    def state(self) -> dict[str, Any]:
        return {"state": "asleep", "depth": "off", "engine": "main", "waiting": 0, "running": 0}

    async def totals(self) -> Totals:
        return Totals(
            requests={("http", "done"): 3},
            tokens=(30, 40),
            wakes={("off", "ok"): (2, 41.5)},
            energy_j={("idle", "awake"): 12.5},
            ttft_s=[0.1, 0.2, 20.0],
        )

    async def energy(self) -> dict[str, Any]:
        return {"source": "estimate", "today_j": 12.5, "by_depth_j": {"off": None}}

    def _make_id(self) -> str:
        self._made += 1
        return f"made-{self._made}"

    def _maybe_fail(self) -> None:
        if error := self.fail_next:
            self.fail_next = None
            raise error


def _words(request: Request) -> list[str]:
    return prompt_of(json.loads(request.body)).split()


def _parts(request: Request, about: dict[str, Any]) -> list[Part | Verbatim]:
    return [Part(**about, index=i, text=word) for i, word in enumerate(_words(request))]


def _events(request: Request) -> list[Part | Verbatim]:
    """As an engine says them that is asked for usage, too."""
    asked = json.loads(request.body) | {"stream_options": {"include_usage": True}}
    answer = drivers.fake.Answer(asked, prompt_of(asked), chat=request.form == "message")
    return [Verbatim(event) for event in answer.events()]


def _answer(id: str, request: Request, error: ApplianceError | None = None) -> bytes:
    if error is not None:
        return json.dumps({"id": id, "error": error.as_dict()}).encode()
    text = " ".join(_words(request))
    said: dict[str, Any] = {"text": text}
    if request.verbatim:
        message = {"role": "assistant", "content": text}
        said = {"message": message} if request.form == "message" else said
        said |= {"finish_reason": "stop", "model": "main"}
    return json.dumps({"id": id, **said}).encode()
