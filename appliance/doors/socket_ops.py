"""What a client of the socket may ask for, carried out at the desk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from appliance import desk
from appliance.desk import Answer, Desk, Receipt
from appliance.doors import socket_lines as lines
from appliance.doors.following import ENDED, Followed
from appliance.doors.socket_lines import (
    AnyOp,
    Ask,
    Bake,
    Calibrate,
    Cancel,
    Fetch,
    Rest,
    Status,
    Submit,
    Wake,
    Why,
)
from appliance.errors import BadRequest, BakeFailed, CalibrationFailed, Gone
from appliance.notices import Baking, Calibrating, Part, Progress, Subscription
from appliance.request import Request, parse

DOOR = "socket"


class Caller:
    """Carries out one op for one client.

    `send` returns once the client can take more. `may_cancel` is called when
    from now on the op may be cancelled without breaking a promise.
    """

    def __init__(
        self,
        desk: Desk,
        client: str,
        *,
        send: Callable[[bytes], Awaitable[None]],
        may_cancel: Callable[[], None],
        max_request_bytes: int,
    ) -> None:
        self._desk, self._client = desk, client
        self._send, self._may_cancel = send, may_cancel
        self._max_request_bytes = max_request_bytes

    async def carry_out(self, op: AnyOp) -> None:
        """Return when its last event has been sent.

        Raises ApplianceError, which is to be the last event then, or what `send` raises.
        """
        match op:
            case Submit() | Ask():
                await self._request(op)
            case Fetch():
                await self._fetch(op)
            case Cancel(id=id, door=door, client=client):
                if client is None:
                    client = self._client if door == DOOR else ""
                done = await self._desk.cancel(door, client, id)
                await self._send(lines.event("cancelled", op.tag, id=id, cancelled=done))
            case Status():
                told = {**self._desk.state(), "energy": await self._desk.energy()}
                await self._send(lines.event("status", op.tag, status=told))
            case Wake(keep_warm_s=keep_warm_s):
                self._desk.wake(keep_warm_s)
                await self._send(lines.event("ok", op.tag))
            case Rest(depth=depth):
                self._desk.rest(depth)
                await self._send(lines.event("ok", op.tag))
            case Bake(again=again):
                await self._bake(op, again=again)
            case Calibrate():
                await self._calibrate(op)
            case Why(limit=limit):
                await self._send(lines.event("why", op.tag, why=await self._desk.why(limit)))

    async def _bake(self, op: Bake, *, again: bool) -> None:
        """Tell how it goes on. Whoever leaves ends nothing."""
        self._may_cancel()
        with self._desk.notices.subscribed(lambda notice: isinstance(notice, Baking)) as news:
            self._desk.bake(again=again)
            async for notice in news:
                assert isinstance(notice, Baking)
                if notice.step in {"failed", "stopped"}:
                    raise BakeFailed(notice.detail)
                name = "baked" if notice.step == "baked" else "baking"
                await self._send(lines.event(name, op.tag, **baking(notice)))
                if name == "baked":
                    return

    async def _calibrate(self, op: Calibrate) -> None:
        """Tell how it goes on. Whoever leaves last ends it."""
        self._may_cancel()
        wish = desk.Calibrate(cycles=op.cycles, over_s=op.over_s, again=op.again)
        with (
            self._desk.notices.subscribed(lambda notice: isinstance(notice, Calibrating)) as news,
            self._desk.calibrate(wish),
        ):
            async for notice in news:
                assert isinstance(notice, Calibrating)
                if notice.step in {"failed", "stopped"}:
                    raise CalibrationFailed(notice.detail)
                told: dict[str, Any] = {"seconds": round(notice.seconds, 3)}
                if notice.step == "calibrated":
                    told |= self._desk.calibration()
                    await self._send(lines.event("calibrated", op.tag, **told))
                    return
                told |= {"step": notice.step, "depth": notice.depth}
                told |= {"left_s": round(notice.left_s)}
                await self._send(lines.event("calibrating", op.tag, **told))

    async def _request(self, op: Submit | Ask) -> None:
        try:
            request, _ = parse(
                lines.payload(op.request),
                door=DOOR,
                client=self._client,
                id=op.id,
                limit_bytes=self._max_request_bytes,
            )
            if isinstance(op, Submit):
                await self._submit(op, request)
            else:
                await self._ask(op, request)
        except BadRequest as error:
            await self._desk.refused(DOOR, self._client, op.id, error)
            raise

    async def _ask(self, op: Ask, request: Request) -> None:
        self._may_cancel()
        async with self._desk.call(request) as news:
            async for notice in news:
                match notice:
                    case Progress() | Part():
                        await self._tell(op, notice)
                    case Answer(payload=payload):
                        await self._send(lines.answered(op.tag, payload))

    async def _submit(self, op: Submit, request: Request) -> None:
        # Not to be cancelled: a client that hears nothing repeats it under
        # the same id, and must not have been told that it was not accepted.
        if not op.wait:
            await self._queued(op, await self._desk.accept(request))
            return
        followed = Followed(DOOR, self._client, request.id)
        with self._desk.notices.subscribed(followed.wants) as news:
            receipt = await self._desk.accept(request)
            followed.id = receipt.id
            await self._queued(op, receipt)
            await self._follow(op, receipt, news)

    async def _fetch(self, op: Fetch) -> None:
        with self._desk.notices.subscribed(Followed(DOOR, self._client, op.id).wants) as news:
            receipt = await self._desk.find(DOOR, self._client, op.id)
            if receipt is None:
                raise BadRequest(f"no request {op.id!r} of {self._client} is known here")
            if receipt.answer is None:
                await self._queued(op, receipt)
            if op.wait or receipt.answer is not None:
                await self._follow(op, receipt, news)

    async def _queued(self, op: AnyOp, receipt: Receipt) -> None:
        told = lines.event(
            "queued", op.tag, id=receipt.id, state=receipt.state, repeated=receipt.repeated
        )
        await self._send(told)

    async def _follow(self, op: Submit | Fetch, receipt: Receipt, news: Subscription) -> None:
        """Tell what happens to it, then its answer."""
        self._may_cancel()
        answer = receipt.answer
        if answer is None:
            if receipt.state not in ENDED:
                await self._tell_until_ended(op, receipt.id, news)
            ended = await self._desk.find(DOOR, self._client, receipt.id)
            answer = ended.answer if ended else None
        if answer is None:
            raise Gone(receipt.id)
        await self._send(lines.answered(op.tag, answer))

    async def _tell_until_ended(self, op: AnyOp, id: str, news: Subscription) -> None:
        async for notice in news:
            # Until the receipt was there, all of this user's were wanted.
            if not isinstance(notice, Progress | Part) or notice.id != id:
                continue
            await self._tell(op, notice)
            if isinstance(notice, Progress) and notice.state in ENDED:
                break

    async def _tell(self, op: AnyOp, notice: Progress | Part) -> None:
        match notice:
            case Part(id=id, index=index, text=text):
                told = lines.event("part", op.tag, id=id, index=index, text=text)
            case Progress(id=id, state=state, expected_s=expected_s, code=code):
                told = lines.event(
                    "progress", op.tag, id=id, state=state, expected_s=expected_s, code=code
                )
        await self._send(told)


def baking(notice: Baking) -> dict[str, Any]:
    """The fields of its event."""
    return {
        "step": None if notice.step == "baked" else notice.step,
        "seconds": round(notice.seconds, 3),
        "detail": notice.detail or None,
        "at": notice.at,
        "energy_j": notice.energy_j,
    }
