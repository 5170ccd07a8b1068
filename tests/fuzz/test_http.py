"""Ten thousand requests to the whole daemon: none ends it, none that is refused wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import struct
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, NamedTuple

from hypothesis import given, settings

from appliance.machine.lifecycle import State
from tests.fuzz.calls import BAD, CALLS, Call, Visit, visits
from tests.fuzz.whole import Bench

LAST = Call("GET", "/health", (("Host", "localhost"), ("Connection", "close")), b"")


class Response(NamedTuple):
    """last  the door says that it closes the connection"""

    status: int
    body: bytes
    last: bool


class Heard(io.BytesIO):
    """Stands for a socket, to those who read responses; it may be read for one after another."""

    def makefile(self, *_: object) -> Heard:
        return self

    def close(self) -> None:
        pass


def responses(heard: bytes, calls: list[Call]) -> list[Response]:
    """In order; fails on what is none."""
    stream, found = Heard(heard), []
    for call in calls:
        if stream.tell() == len(heard):
            break
        response = HTTPResponse(stream, method=call.method)  # type: ignore[arg-type]  # a socket
        response.begin()
        closes = response.will_close  # forgotten once it is read
        found.append(Response(response.status, response.read(), closes))
    assert stream.tell() == len(heard)
    return found


async def visit(port: int, visit: Visit) -> list[Response]:
    """The responses, if it listens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    said = b"".join(call.raw() for call in visit.calls)
    listens = visit.manner == "listen" and not visit.nonsense
    said += LAST.raw() if listens else visit.nonsense
    heard = b""
    with contextlib.suppress(ConnectionError):
        writer.write(said[:-7] if visit.manner == "cut" else said)
        if listens:
            async with asyncio.timeout(20):
                heard = await reader.read()
        elif visit.manner == "reset":
            await writer.drain()
    if visit.manner == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return responses(heard, [*visit.calls, LAST])


async def all_of(port: int, batch: list[Visit]) -> list[list[Response]]:
    """At the same time."""
    async with asyncio.TaskGroup() as tasks:
        going = [tasks.create_task(visit(port, each)) for each in batch]
    return [task.result() for task in going]


def check(visit: Visit, heard: list[Response]) -> None:
    """Each request has its response, up to one that ends the connection."""
    if visit.manner != "listen" or visit.nonsense:
        return
    # Of what is too large the rest may not be read, and the connection is of no use then.
    ends = heard[-1].last or heard[-1].status == 413
    assert len(heard) == len(visit.calls) + 1 or ends, heard
    for call, (status, body, _) in zip([*visit.calls, LAST], heard, strict=False):
        assert status != 500, (call, body)
        if status >= 400 and call.method != "HEAD":
            error: dict[str, Any] = json.loads(body)["error"]
            assert set(error) >= {"message", "type", "param", "code"}


def test_ten_thousand_requests(tmp_path: Any, thorough: Callable[[int], settings]) -> None:
    """Right, wrong in one thing, or nonsense; heard out, or left in the middle."""
    bench = Bench(tmp_path)

    @thorough(520)
    @given(visits(CALLS, wild=True))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.calls) for each in batch)
        with bench.batch() as whole:
            address = whole.config.http.address
            assert address is not None
            heard = whole.run(all_of(address.port, batch))
            for each, told in zip(batch, heard, strict=True):
                check(each, told)

    with bench:
        say()
    assert bench.said >= 10_000


def test_nothing_refused_wakes(tmp_path: Any, thorough: Callable[[int], settings]) -> None:
    """Two thousand requests, each of them wrong: all are told so, and the machine never moves."""
    bench = Bench(tmp_path)

    @thorough(100)
    @given(visits(BAD, wild=False))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.calls) for each in batch)
        with bench.batch() as whole:
            whole.run(whole.asleep())
            starts, changes = len(whole.engine.calls), whole.changes
            address = whole.config.http.address
            assert address is not None
            heard = whole.run(all_of(address.port, batch))
            for each, told in zip(batch, heard, strict=True):
                check(each, told)
                assert all(400 <= status < 500 for status, *_ in told[: len(each.calls)]), told
            assert whole.appliance.supervisor.machine.state is State.ASLEEP
            assert (len(whole.engine.calls), whole.changes) == (starts, changes)

    with bench:
        say()
    assert bench.said >= 2_000
