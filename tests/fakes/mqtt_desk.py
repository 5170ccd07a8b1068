"""A desk that recognises what the broker sends again, and can be held in the middle of a commit."""

from __future__ import annotations

import asyncio

import msgspec

from appliance.desk import Delivery, Outgoing, Receipt
from appliance.notices import OutboxReady
from appliance.request import Request
from tests.fakes.desk import FakeDesk


class MqttDesk(FakeDesk):
    """Satisfies Desk. `arrivals` tells of each accept.

    `commits`: where there is one, each accept waits for its turn, first come, first served.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commits: asyncio.Semaphore | None = None
        self.arrivals: asyncio.Queue[tuple[Request, Delivery | None]] = asyncio.Queue()
        self._unacked: dict[int, tuple[bytes, str]] = {}

    async def accept(
        self, request: Request, *, reply_to: bytes | None = None, delivery: Delivery | None = None
    ) -> Receipt:
        self.arrivals.put_nowait((request, delivery))
        if self.commits is not None:
            await self.commits.acquire()
        if delivery is not None and delivery.redelivered:
            digest, id = self._unacked.get(delivery.mid, (b"", ""))
            if digest == request.digest:
                request = msgspec.structs.replace(request, id=id)
        receipt = await super().accept(request, reply_to=reply_to, delivery=delivery)
        if delivery is not None:
            self._unacked[delivery.mid] = (request.digest, receipt.id)
        if receipt.repeated and receipt.answer is not None and reply_to is not None:
            number = len(self._outbox) + 1
            self._outbox.append(
                Outgoing(number, request.client, receipt.id, reply_to, receipt.answer, request.hops)
            )
            self.notices.tell(OutboxReady(request.door))
        return receipt

    async def session_lost(self) -> None:
        await super().session_lost()
        self._unacked.clear()
