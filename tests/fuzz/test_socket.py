"""Ten thousand lines to the whole daemon: none of them ends it, none that is refused wakes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from appliance.machine.lifecycle import State
from tests.fuzz.lines import BAD_LINES, LINES, TOO_LONG, Visit, visits
from tests.fuzz.whole import Bench

LAST = {"answer", "error", "status", "cancelled", "ok"}
"""Events that end an op."""


async def visit(path: Path, visit: Visit) -> list[dict[str, Any]]:
    """The events, if it listens."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2**22)
    said = b"".join(line + b"\n" for line in visit.lines)
    heard = b""
    with contextlib.suppress(ConnectionError):
        writer.write(said[:-7] if visit.manner == "cut" else said)
        if visit.manner == "listen":
            writer.write_eof()
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
    return [json.loads(line) for line in heard.splitlines()]


async def all_of(path: Path, batch: list[Visit]) -> list[list[dict[str, Any]]]:
    """At the same time."""
    async with asyncio.TaskGroup() as tasks:
        going = [tasks.create_task(visit(path, each)) for each in batch]
    return [task.result() for task in going]


def check_ends(visit: Visit, events: list[dict[str, Any]]) -> None:
    """Each line has one last event, whatever it was."""
    if visit.manner != "listen":
        return
    last = [event for event in events if event["event"] in LAST]
    queued = [event for event in events if event["event"] == "queued"]
    assert len(last) <= len(visit.lines)
    if TOO_LONG in visit.lines:
        codes = [event["error"]["code"] for event in last if event["event"] == "error"]
        assert "too_large" in codes  # and what was live ends with the connection, unsaid
    else:
        assert len(last) + len(queued) >= len(visit.lines)


def test_ten_thousand_lines(tmp_path: Path, thorough: Callable[[int], settings]) -> None:
    """Right, wrong in one thing, or nonsense; heard out, or left in the middle."""
    bench = Bench(tmp_path)

    @thorough(520)
    @given(visits(LINES))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.lines) for each in batch)
        with bench.batch() as whole:
            heard = whole.run(all_of(whole.config.socket_path, batch))
            for each, events in zip(batch, heard, strict=True):
                check_ends(each, events)

    with bench:
        say()
    assert bench.said >= 10_000


def test_nothing_refused_wakes(tmp_path: Path, thorough: Callable[[int], settings]) -> None:
    """Two thousand lines, each of them wrong: all are told so, and the machine never moves."""
    bench = Bench(tmp_path)

    @thorough(100)
    @given(visits(BAD_LINES))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.lines) for each in batch)
        with bench.batch() as whole:
            whole.run(whole.asleep())
            starts, changes = len(whole.engine.calls), whole.changes
            heard = whole.run(all_of(whole.config.socket_path, batch))
            for each, events in zip(batch, heard, strict=True):
                check_ends(each, events)
                assert all(event["event"] == "error" for event in events), events
            assert whole.appliance.supervisor.machine.state is State.ASLEEP
            assert (len(whole.engine.calls), whole.changes) == (starts, changes)

    with bench:
        say()
    assert bench.said >= 2_000
