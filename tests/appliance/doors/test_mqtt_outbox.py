from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from appliance.clock import SystemClock
from appliance.desk import Outgoing
from appliance.doors.mqtt_client import Connection
from appliance.doors.mqtt_message import Address, encode_address
from appliance.doors.mqtt_outbox import Outbox, echoed
from appliance.doors.mqtt_topics import Topics
from tests.fakes.mqtt_desk import MqttDesk

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class MoodyConnection:
    """Takes every publish a little later, but ends at once over `poison`."""

    max_packet_bytes = 1 << 20

    def __init__(self, poison: bytes) -> None:
        self.posted: list[bytes] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._poison = poison
        self._under_way: list[asyncio.Future[int | None]] = []

    def post(self, _: str, payload: bytes, **__: Any) -> asyncio.Future[int | None]:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[int | None] = loop.create_future()
        if self.ended.done():
            taken.set_result(None)
            return taken
        self.posted.append(payload)
        self._under_way.append(taken)
        if payload == self._poison:
            self.ended.set_result(None)
            self._answer(None)
        else:
            loop.call_later(0.01, self._answer, 0)
        return taken

    def take_settled(self) -> list[int]:
        return []

    def _answer(self, code: int | None) -> None:
        for taken in self._under_way:
            if not taken.done():
                taken.set_result(code)


async def test_an_answer_that_ends_the_connection_holds_up_no_other() -> None:
    """The next time each is sent alone; the guilty one is found, and left for later."""
    desk = MqttDesk()
    answers = [b'{"n":%d}' % number for number in range(1, 9)]
    reply_to = encode_address(Address())
    desk._outbox += [
        Outgoing(number, "", f"a{number}", reply_to, answer, 0)
        for number, answer in enumerate(answers, start=1)
    ]
    outbox = Outbox(desk, Topics("wattnap/home"), SystemClock())
    posted: list[bytes] = []
    for _ in range(3):
        connection = MoodyConnection(poison=answers[3])
        async with asyncio.TaskGroup() as tasks:
            delivering = tasks.create_task(outbox.deliver(cast("Connection", connection)))
            await asyncio.wait([connection.ended], timeout=0.3)
            delivering.cancel()
        posted += connection.posted

    assert sorted(desk.delivered_numbers) == [1, 2, 3, 5, 6, 7, 8]
    assert posted.count(answers[3]) == 2


def test_the_json_correlation_is_the_answers_last_field() -> None:
    """With MQTT 3.1.1 there is no other place for it; the rest keeps its bytes."""
    answer = b'{"id":"a","text":"x"}'

    assert echoed(answer, Address()) == answer
    assert echoed(answer, Address(echo='"7"')) == b'{"id":"a","text":"x","correlation":"\\"7\\""}'


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\0",
        b"{",
        b"[]",
        b'{"topic":5}',
        b'{"topic":"a/#"}',
        b'{"topic":"a\\u0000"}',
        DEEP,
    ],
)
async def test_an_address_that_cannot_be_read_is_struck_off(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and those behind it are delivered."""
    desk = MqttDesk()
    good = encode_address(Address())
    desk._outbox += [
        Outgoing(number, "", f"a{number}", reply_to, b'{"n":%d}' % number, 0)
        for number, reply_to in enumerate((good, garbage, good), start=1)
    ]
    connection = MoodyConnection(poison=b"")
    outbox = Outbox(desk, Topics("wattnap/home"), SystemClock())
    async with asyncio.TaskGroup() as tasks:
        delivering = tasks.create_task(outbox.deliver(cast("Connection", connection)))
        await asyncio.wait([connection.ended], timeout=0.3)
        delivering.cancel()

    assert desk.delivered_numbers == [1, 3]
    ((number, reason),) = desk.undeliverables.items()
    assert number == 2
    assert reason in caplog.text
    (told,) = [said for said in connection.posted if b"undeliverable" in said]
    assert b'"id":"a2"' in told
