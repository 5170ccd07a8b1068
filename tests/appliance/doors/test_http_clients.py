"""The HTTP door's clients that hang up, do not read, send slowly, or speak it in their own way."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest

from appliance.errors import (
    TooLarge,
)
from tests.appliance.doors.http_doors import (
    CHAT,
    asked,
    encoded,
    eventually,
    request,
    serving,
)
from tests.fakes.desk import FakeDesk


async def test_who_hangs_up_ends_the_call(desk: FakeDesk) -> None:
    """Streamed or not, begun or not."""
    async with serving(desk) as door:
        for stream in (False, True):
            desk.gate.clear()
            async with door.connected() as (_, writer):
                writer.write(request(encoded("one two", stream=stream)))
                assert await desk.heard.get() == "call"
            async with asyncio.timeout(10):
                assert await desk.ended_calls.get() == f"made-{1 + stream}"


async def test_who_hangs_up_does_not_end_what_is_kept(desk: FakeDesk) -> None:
    """An accepted request is answered, whoever listens."""
    desk.held = True
    async with serving(desk) as door:
        async with door.connected() as (_, writer):
            writer.write(request(encoded("one"), CHAT, "Idempotency-Key: k"))
            assert await desk.heard.get() == "accept"
        desk.finish("http", "", "k")

        assert (await door.ask("one", headers={"Idempotency-Key": "k"}))[0] == 200
    assert desk.cancelled == []


async def test_who_does_not_read_is_dropped_and_keeps_nobody_waiting(desk: FakeDesk) -> None:
    """After a while; meanwhile others are served."""
    many = "word " * 12_000
    async with (
        serving(desk, max_request_bytes=1 << 20, stalled_s=0.3) as door,
        door.connected() as (_, writer),
    ):
        writer.write(request(encoded(many, stream=True)))
        await writer.drain()
        assert await desk.heard.get() == "call"

        assert (await door.ask("hello"))[0] == 200
        async with asyncio.timeout(10):
            ended = {await desk.ended_calls.get(), await desk.ended_calls.get()}
        assert ended == {"made-1", "made-2"}


async def test_a_large_answer_that_nobody_reads(desk: FakeDesk) -> None:
    """Its connection is dropped, too: nothing is kept for it."""
    async with (
        serving(desk, max_request_bytes=1 << 24, stalled_s=0.3) as door,
        door.connected() as (_, writer),
    ):
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(request(encoded("x" * (12 << 20))))
        await writer.drain()
        async with asyncio.timeout(10):
            await desk.ended_calls.get()
        await eventually(lambda: not door.connections())


async def test_a_stop_tells_who_waits(desk: FakeDesk) -> None:
    """503, and when to come back; nobody is left without a word."""
    desk.held = True
    async with serving(desk) as door:
        asking = asyncio.ensure_future(door.ask("hello", headers={"Idempotency-Key": "k"}))
        assert await desk.heard.get() == "accept"
        door.task.cancel()
        status, told = await asking

    assert (status, told["error"]["code"]) == (503, "interrupted")


async def test_too_large(desk: FakeDesk) -> None:
    """Announced or not; nothing of it is read further, and the connection is closed."""
    announced = request(b"x" * 70_000)[:300]
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    chunked = (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % CHAT.encode()
    )
    chunked += b"Transfer-Encoding: chunked\r\n\r\n" + 17 * piece
    async with serving(desk) as door:
        for sent in (announced, chunked):
            async with door.connected() as (reader, writer), asyncio.timeout(10):
                writer.write(sent)
                heard = await reader.readuntil(b"\r\n\r\n")
            assert heard.startswith(b"HTTP/1.1 413 ")

    assert [type(error) for *_, error in desk.refusals] == [TooLarge, TooLarge]


async def test_chunked_bodies_and_bodies_that_ask_first(desk: FakeDesk) -> None:
    """Both are HTTP/1.1; curl does the latter with large ones."""
    body = encoded("hello")

    async def pieces() -> Any:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    async with serving(desk) as door:
        headers = {"Content-Type": "application/json"}
        async with door.session.post(CHAT, data=pieces(), headers=headers) as reply:
            assert reply.status == 200
        async with door.session.post(CHAT, data=body, headers=headers, expect100=True) as reply:
            assert reply.status == 200


async def test_a_body_that_does_not_come(desk: FakeDesk) -> None:
    """Nobody waits for it for ever."""
    async with serving(desk, stalled_s=0.2) as door:
        heard = await door.raw(request(encoded("hello"), CHAT, "Connection: close")[:-5])

    assert heard.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("text", ["", "a page in a browser can send this unasked"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_only_json(headers: dict[str, str], text: str, desk: FakeDesk) -> None:
    """And said to be."""
    async with (
        serving(desk) as door,
        door.session.post(CHAT, data=text, headers=headers) as reply,
    ):
        assert reply.status == 415

    assert desk.calls == []


async def test_many_at_once_on_one_connection(desk: FakeDesk) -> None:
    """Pipelined requests are answered in order."""
    several = b"".join(request(encoded(f"number {n}")) for n in range(20))
    async with serving(desk) as door:
        last = request(encoded("the end"), CHAT, "Connection: close")
        heard = await door.raw(several + last)

    assert heard.count(b"HTTP/1.1 200 OK") == 21
    places = [heard.index(b'"number %d"' % n) for n in range(20)]
    assert places == sorted(places)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_mark_before_the_json(stream: bool, desk: FakeDesk) -> None:
    """Some editors put one there (a byte order mark)."""
    body = b"\xef\xbb\xbf" + encoded("hello", stream=stream)
    async with serving(desk) as door:
        heard = await door.raw(request(body, CHAT, "Connection: close"))

    assert heard.startswith(b"HTTP/1.1 200 ")


async def test_who_would_rather_speak_something_else(desk: FakeDesk) -> None:
    """An upgrade is an offer, which is not taken up: HTTP/2, WebSocket."""
    offers = ("Upgrade: h2c", "Upgrade: websocket")
    async with serving(desk) as door:
        for offer in offers:
            head = ("Connection: Upgrade, close", offer)
            heard = await door.raw(request(encoded("hello"), CHAT, *head))
            assert heard.startswith(b"HTTP/1.1 200 "), offer
        prior_knowledge = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        assert b" 400 " in await door.raw(prior_knowledge)


async def test_an_old_client_reads_to_the_end(desk: FakeDesk) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the stream."""
    body = encoded("one two", stream=True)
    old = request(body).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    async with serving(desk) as door:
        heard = await door.raw(old)

    assert heard.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_keeps_its_connection(desk: FakeDesk) -> None:
    """Refusals and answers on one connection."""
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        serving(desk) as door,
        aiohttp.ClientSession(f"http://127.0.0.1:{door.port}", connector=connector) as session,
    ):
        for _ in range(3):
            for path in (CHAT, "/nope"):
                async with session.post(path, json=asked("x")) as reply:
                    await reply.read()
        assert door.connections() == 1
