"""The socket door over a real unix socket, with a desk that has no engine."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.desk import Calibrate
from appliance.doors.socket import MAX_CONNECTIONS, STALLED_S, SocketDoor
from appliance.doors.socket_connection import MAX_OPS, Connection
from appliance.doors.socket_lines import OPS
from appliance.errors import (
    ApplianceError,
    BadRequest,
    CommandError,
    ConfigError,
    InboxFull,
    WakeFailed,
)
from appliance.notices import Baking, Calibrating
from tests.fakes.desk import FakeDesk

LIMIT = 64 * 1024
ME = f"uid:{os.getuid()}"

Event = dict[str, Any]  # JSON


@contextlib.asynccontextmanager
async def serving(path: Path, desk: FakeDesk, **other: Any) -> AsyncIterator[asyncio.Task[None]]:
    """The door, open from here to the end of the block."""
    settings: dict[str, Any] = {"mode": 0o660, "group": "", "max_request_bytes": LIMIT, **other}
    door = SocketDoor(path=path, desk=desk, **settings)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.run(ready.set))
        opened = tasks.create_task(ready.wait())
        await asyncio.wait({task, opened}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if not task.done():
            try:
                yield task
            finally:
                task.cancel()


class Client:
    """A client of the door that reads and writes lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *ops: Event | bytes) -> None:
        for op in ops:
            line = op if isinstance(op, bytes) else json.dumps(op).encode()
            self.writer.write(line + b"\n")
        await self.writer.drain()

    async def event(self) -> Event:
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        assert line.endswith(b"\n"), f"the door closed the connection after {line!r}"
        return json.loads(line)  # type: ignore[no-any-return]

    async def until(self, name: str) -> list[Event]:
        events = [await self.event()]
        while events[-1]["event"] != name:
            events.append(await self.event())
        return events

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2**20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "wattnap.sock"


async def test_submit_is_queued_after_the_commit(desk: FakeDesk, path: Path) -> None:
    """A submitted text is accepted under the kernel's word for who sent it."""
    desk.held = True
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "id": "a", "request": "hello there"})
        queued = await client.event()

    assert queued == {"event": "queued", "id": "a", "state": "waiting", "repeated": False}
    request = desk.accepted[0][0]
    assert (request.door, request.client, request.id) == ("socket", ME, "a")
    assert json.loads(request.body)["messages"][0]["content"] == "hello there"


async def test_submit_and_wait_tells_progress_then_the_answer(desk: FakeDesk, path: Path) -> None:
    """With `wait`, one op tells everything up to the answer, each event with its tag."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "request": "one two", "wait": True, "tag": 7})
        events = await client.until("answer")

    assert [e["event"] for e in events] == ["queued", *["progress"] * 3, "answer"]
    assert [e["state"] for e in events[:-1]] == ["waiting", "queued", "running", "done"]
    assert events[-1]["answer"] == {"id": events[0]["id"], "text": "one two"}
    assert {e["tag"] for e in events} == {7}


async def test_a_failed_request_is_answered_with_its_error(desk: FakeDesk, path: Path) -> None:
    """A durable failure is an answer: it is stored, and the same every time it is asked for."""
    desk.held = True
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "id": "a", "request": "x", "wait": True})
        await client.until("queued")
        desk.finish("socket", ME, "a", WakeFailed("no memory", 30.0))
        first = (await client.until("answer"))[-1]
        await client.send({"op": "answer", "id": "a"})
        again = await client.event()

    assert first["answer"]["error"]["code"] == "wake_failed"
    assert first == again


async def test_answer_follows_a_submitted_request(desk: FakeDesk, path: Path) -> None:
    """`answer` without `wait` says how far it is; with it, it stays to the end."""
    desk.held = True
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "id": "a", "request": "x y"})
        await client.event()
        await client.send({"op": "answer", "id": "a"})
        told = await client.event()
        await client.send({"op": "answer", "id": "a", "wait": True})
        await client.event()
        desk.finish("socket", ME, "a")
        events = await client.until("answer")

    assert told == {"event": "queued", "id": "a", "state": "waiting", "repeated": False}
    assert [e["event"] for e in events] == ["progress", "progress", "answer"]


async def test_an_unknown_answer_is_an_error(desk: FakeDesk, path: Path) -> None:
    """An id that nobody submitted is told to be unknown, not waited for."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "answer", "id": "never", "wait": True})
        told = await client.event()

    assert told["event"] == "error"
    assert told["id"] == "never"
    assert told["error"]["code"] == "bad_request"


async def test_ask_streams_parts(desk: FakeDesk, path: Path) -> None:
    """A live call tells the wake with what it expects, then the parts, then the answer."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "ask", "request": {"prompt": "a b", "stream": True}, "tag": "t"})
        events = await client.until("answer")

    assert events[0] == {
        "event": "progress", "tag": "t", "id": "made-1", "state": "waking", "expected_s": 20.0,
    }  # fmt: skip
    assert [e["text"] for e in events if e["event"] == "part"] == ["a", "b"]
    assert events[-1]["answer"]["text"] == "a b"


async def test_ops_run_side_by_side(desk: FakeDesk, path: Path) -> None:
    """A long call does not hold up another op of the same connection."""
    desk.gate.clear()
    async with serving(path, desk), connected(path) as client:
        await client.send(
            {"op": "ask", "request": "slow", "tag": "slow"}, {"op": "status", "tag": "quick"}
        )
        events = await client.until("status")
        desk.gate.set()
        last = (await client.until("answer"))[-1]

    assert events[-1]["tag"] == "quick"
    assert events[-1]["status"]["depth"] == "off"
    assert events[-1]["status"]["energy"]["by_depth_j"] == {"off": None}
    assert last["tag"] == "slow"


async def test_wake_rest_cancel(desk: FakeDesk, path: Path) -> None:
    """The operator's words reach the desk; a depth that is not offered is an error."""
    desk.held = True
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "id": "a", "request": "x"})
        await client.event()
        await client.send(
            {"op": "wake", "keep_warm_s": 60},
            {"op": "rest"},
            {"op": "rest", "depth": "parked"},
            {"op": "cancel", "id": "a"},
            {"op": "cancel", "id": "b"},
            {"op": "cancel", "id": "c", "door": "mqtt"},
        )
        events = [await client.event() for _ in range(6)]

    assert [e["event"] for e in events] == ["ok", "ok", "error", *["cancelled"] * 3]
    assert [e["cancelled"] for e in events[3:]] == [True, False, False]
    assert desk.wakes == [60.0]
    assert desk.rests == [None]
    assert desk.cancelled == [("socket", ME, "a"), ("socket", ME, "b"), ("mqtt", "", "c")]


async def test_a_bake_is_followed_to_its_end(desk: FakeDesk, path: Path) -> None:
    """Its steps, then `baked`; a failed one ends with the error. The ops go on side by side."""
    desk.bakings = [
        Baking(step="starting", seconds=0.0),
        Baking(step="asleep", seconds=92.0, detail="3 of 13 GB"),
        Baking(step="baked", seconds=95.5, at="2026-01-01T00:00:00.000Z", energy_j=900.0),
    ]
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "bake", "again": True, "tag": 1})
        told = [await client.event() for _ in range(3)]
        desk.bakings = [Baking(step="failed", seconds=1.0, detail="no such flag")]
        await client.send({"op": "bake"})
        failed = await client.event()

    assert desk.bakes == [True, False]
    assert told == [
        {"event": "baking", "tag": 1, "step": "starting", "seconds": 0.0},
        {"event": "baking", "tag": 1, "step": "asleep", "seconds": 92.0, "detail": "3 of 13 GB"},
        {
            "event": "baked",
            "tag": 1,
            "seconds": 95.5,
            "at": "2026-01-01T00:00:00.000Z",
            "energy_j": 900.0,
        },
    ]
    assert failed["error"] == {"code": "bake_failed", "message": "no such flag"}


async def test_a_calibration_is_followed_to_its_end(desk: FakeDesk, path: Path) -> None:
    """Its steps, then the prices; a failed one ends with the error. Whoever goes lets go of it."""
    desk.calibratings = [
        Calibrating(step="resting", depth="parked", seconds=10.0, left_s=99.6),
        Calibrating(step="calibrated", seconds=60.0),
    ]
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "calibrate", "cycles": 2, "tag": 1})
        told = [await client.event() for _ in range(2)]
        desk.calibratings = [Calibrating(step="failed", seconds=1.0, detail="no such flag")]
        await client.send({"op": "calibrate", "again": True})
        failed = await client.event()
        desk.calibratings = []
        desk.begun_calibrations.clear()
        desk.left_calibrations.clear()
        await client.send({"op": "calibrate", "over_s": 5})
        async with asyncio.timeout(10):
            await desk.begun_calibrations.wait()
    async with asyncio.timeout(10):
        await desk.left_calibrations.wait()

    assert desk.calibrates == [
        Calibrate(cycles=2),
        Calibrate(again=True),
        Calibrate(over_s=5.0),
    ]
    assert told[0] == {
        "event": "calibrating",
        "tag": 1,
        "step": "resting",
        "depth": "parked",
        "seconds": 10.0,
        "left_s": 100,
    }
    assert told[1] == {"event": "calibrated", "tag": 1, "seconds": 60.0, **desk.calibration()}
    assert failed["error"] == {"code": "calibration_failed", "message": "no such flag"}


async def test_why(desk: FakeDesk, path: Path) -> None:
    """As many of the latest decisions as are asked for."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "why", "limit": 7})

        assert (await client.event())["why"] == await desk.why(7)


async def test_a_text_that_looks_like_json_stays_text(desk: FakeDesk, path: Path) -> None:
    """A string is plain text, also one that begins with a brace."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "request": "{not json"})
        await client.event()

    body = json.loads(desk.accepted[0][0].body)
    assert body["messages"][0]["content"] == "{not json"


REFUSED_REQUESTS = {
    "not JSON": b"hello",
    "an array": b"[]",
    "invalid UTF-8": b'{"op": "ask", "request": "\xff"}',
    "a NUL": b"\0",
    "NUL in a text": b'{"op": "ask", "request": "a\\u0000b"}',
    "nested too deep": b'{"op": "ask", "request": ' + b"[" * 20_000,
    "nothing to ask": b'{"op": "ask"}',
    "an empty text": b'{"op": "ask", "request": ""}',
    "a number": b'{"op": "submit", "request": 5}',
    "null": b'{"op": "submit", "request": null}',
    "a field unknown to the op": b'{"op": "ask", "request": "x", "wait": true}',
    "a field unknown to the request": b'{"op": "ask", "request": {"prompt": "x", "colour": 1}}',
    "a negative limit": b'{"op": "ask", "request": {"prompt": "x", "max_tokens": -1}}',
    "an id with a space": b'{"op": "submit", "request": "x", "id": "a b"}',
    "wait as a word": b'{"op": "submit", "request": "x", "wait": "yes"}',
    "too large": b'{"op": "submit", "request": "' + b"x" * (LIMIT + 1) + b'"}',
}


@pytest.mark.parametrize("line", REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS.keys())
async def test_a_bad_request_is_refused(line: bytes, desk: FakeDesk, path: Path) -> None:
    """It is told why, it is put into the ledger, and the connection stays usable."""
    async with serving(path, desk), connected(path) as client:
        await client.send(line)
        told = await client.event()
        await client.send({"op": "status"})
        status = await client.event()

    assert told["event"] == "error"
    assert told["error"]["code"] in {"bad_request", "too_large"}
    assert told["error"]["message"]
    assert [(r[0], r[1]) for r in desk.refusals] == [("socket", ME)]
    assert not desk.accepted
    assert not desk.calls
    assert status["event"] == "status"


BAD_LINES = {
    "empty": (b"", "empty"),
    "spaces": (b"   ", "empty"),
    "unknown op": (b'{"op": "dance"}', "dance"),
    "unknown field": (b'{"op": "status", "verbose": true}', "unknown field `verbose`"),
    "negative time": (b'{"op": "wake", "keep_warm_s": -1}', "keep_warm_s"),
    "no id": (b'{"op": "cancel"}', "id"),
}


@pytest.mark.parametrize(("line", "word"), BAD_LINES.values(), ids=BAD_LINES.keys())
async def test_a_bad_line_that_asks_nothing(
    line: bytes, word: str, desk: FakeDesk, path: Path
) -> None:
    """It is told why; the ledger of requests has no part in it."""
    async with serving(path, desk), connected(path) as client:
        await client.send(line)
        told = await client.event()

    assert word in told["error"]["message"]
    assert not desk.refusals


async def test_the_tag_comes_back_with_a_refusal(desk: FakeDesk, path: Path) -> None:
    """Whoever sends several ops can tell which one was wrong."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "ask", "tag": "t", "id": "a", "request": 5})
        told = await client.event()

    assert (told["tag"], told["id"]) == ("t", "a")
    assert desk.refusals[0][2] == "a"


async def test_a_line_of_ten_megabytes(desk: FakeDesk, path: Path) -> None:
    """It is read to its end without being kept, refused, and the connection closed."""
    async with serving(path, desk), connected(path) as client:
        await client.send(b'{"op": "ask", "request": "' + b"x" * 10_000_000 + b'"}')
        told = await client.event()
        closed = await client.ended()

    assert told["error"]["code"] == "too_large"
    assert "10000028 bytes" in told["error"]["message"]
    assert closed
    assert len(desk.refusals) == 1


async def test_a_line_that_is_just_too_long(desk: FakeDesk, path: Path) -> None:
    """It is refused at once: nothing more is waited for."""
    async with serving(path, desk), connected(path) as client:
        started_s = asyncio.get_running_loop().time()
        await client.send(b'{"op": "ask", "request": "' + b"x" * (2 * LIMIT + 4096) + b'"}')
        told = await client.event()
        took_s = asyncio.get_running_loop().time() - started_s

    assert told["error"]["code"] == "too_large"
    assert took_s < 5


async def test_a_conflict_is_in_the_ledger(desk: FakeDesk, path: Path) -> None:
    """What only the desk can refuse is a refused request too."""
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "request": "x", "id": "a"})
        await client.event()
        await client.send({"op": "submit", "request": "y", "id": "a"})
        told = await client.event()

    assert told["error"]["code"] == "conflict"
    assert [(r[2], r[3].code) for r in desk.refusals] == [("a", "conflict")]


async def test_a_refusal_of_the_desk_is_told(desk: FakeDesk, path: Path) -> None:
    """When to try again is told with it."""
    desk.fail_next = InboxFull(10, 5.0)
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "submit", "request": "x", "id": "a"})
        told = await client.event()

    assert told["error"]["code"] == "inbox_full"
    assert told["error"]["retry_after_s"] == 5.0


async def test_disconnecting_cancels_a_live_call(desk: FakeDesk, path: Path) -> None:
    """Nobody is left to read the answer."""
    desk.gate.clear()
    async with serving(path, desk):
        async with connected(path) as client:
            await client.send({"op": "ask", "request": "slow", "id": "a"})
            await client.event()
        async with asyncio.timeout(5):
            left = await desk.ended_calls.get()

    assert left == "a"


async def test_a_connection_that_is_closed_when_its_end_is_read(desk: FakeDesk) -> None:
    """What was being written to a client that hung up may fail first."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        connection = Connection(
            reader, writer, desk=desk, max_request_bytes=LIMIT, stalled_s=STALLED_S
        )
        desk.gate.clear()
        serving = asyncio.create_task(connection.serve())
        theirs.sendall(b'{"op":"ask","request":"hi"}\n')
        while not desk.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        writer.transport.abort()
        async with asyncio.timeout(1):
            await serving


async def test_a_mistake_of_ours_ends_one_connection(
    desk: FakeDesk, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others go on, and so does the door."""
    async with serving(path, desk), connected(path) as other:
        async with connected(path) as client:
            desk.fail_next = RuntimeError("a mistake")
            await client.send({"op": "ask", "request": "hi"})
            assert await client.ended()
        await other.send({"op": "ask", "request": "hi"})
        assert (await other.until("answer"))[-1]["answer"]["text"] == "hi"
    assert "RuntimeError: a mistake" in caplog.text


async def test_disconnecting_cancels_nothing_submitted(desk: FakeDesk, path: Path) -> None:
    """A submitted request goes on, and its answer is there for the next connection."""
    desk.held = True
    async with serving(path, desk):
        async with connected(path) as client:
            await client.send({"op": "submit", "request": "x y", "id": "a", "wait": True})
            await client.event()
        desk.finish("socket", ME, "a")
        async with connected(path) as client:
            await client.send({"op": "submit", "request": "x y", "id": "a", "wait": True})
            events = await client.until("answer")

    assert events[0] == {"event": "queued", "id": "a", "state": "done", "repeated": True}
    assert events[-1]["answer"]["text"] == "x y"
    assert not desk.cancelled


async def test_a_client_may_close_its_side_and_read_on(desk: FakeDesk, path: Path) -> None:
    """`printf … | nc -U` says all at once and then only listens."""
    desk.gate.clear()
    async with serving(path, desk), connected(path) as client:
        client.writer.write(b'{"op": "ask", "request": "x"}')
        client.writer.write_eof()
        await client.event()
        desk.gate.set()
        events = await client.until("answer")
        closed = await client.ended()

    assert events[-1]["answer"]["text"] == "x"
    assert closed


async def test_a_listener_that_leaves_cancels_its_call(desk: FakeDesk, path: Path) -> None:
    """Also one that had closed its own side before, and hears nothing at the moment."""
    desk.gate.clear()
    async with serving(path, desk):
        async with connected(path) as client:
            await client.send({"op": "ask", "request": "x", "id": "a"})
            client.writer.write_eof()
            await client.event()
        async with asyncio.timeout(5):
            left = await desk.ended_calls.get()

    assert left == "a"


async def test_a_client_that_does_not_read(desk: FakeDesk, path: Path) -> None:
    """Its call waits instead of filling memory, others are served, and then it is dropped."""
    many = " ".join(["word"] * 10_000)  # each part makes a line of its own: 600 kB in all
    async with (
        serving(path, desk, stalled_s=0.5),
        connected(path) as idle,
        connected(path) as other,
    ):
        idle.reader._limit = 1  # type: ignore[attr-defined]  # stop taking from the kernel
        await idle.send({"op": "ask", "request": many, "id": "slow"})
        await other.send({"op": "ask", "request": "quick", "id": "quick"})
        events = await other.until("answer")
        quick = await desk.ended_calls.get()
        async with asyncio.timeout(5):
            dropped = await desk.ended_calls.get()

    assert events[-1]["answer"]["text"] == "quick"
    assert (quick, dropped) == ("quick", "slow")


async def test_too_many_ops_at_once_are_refused(desk: FakeDesk, path: Path) -> None:
    """One connection cannot have any number of calls."""
    desk.gate.clear()
    async with serving(path, desk), connected(path) as client:
        await client.send(*({"op": "ask", "request": "x"} for _ in range(MAX_OPS + 1)))
        events = await client.until("error")
        desk.gate.set()

    assert events[-1]["error"]["code"] == "inbox_full"


async def test_too_many_connections_are_refused(desk: FakeDesk, path: Path) -> None:
    """They are told so and closed; those that are there go on."""
    async with serving(path, desk), contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(path)) for _ in range(MAX_CONNECTIONS + 1)
        ]
        told = await clients[-1].event()
        await clients[0].send({"op": "status"})
        status = await clients[0].event()

    assert told["error"]["code"] == "inbox_full"
    assert status["event"] == "status"


async def test_closing_the_door_interrupts_live_calls(desk: FakeDesk, path: Path) -> None:
    """They are told that the daemon stops, and how long to wait."""
    desk.gate.clear()
    desk.held = True
    async with serving(path, desk) as door, connected(path) as client:
        await client.send({"op": "ask", "request": "x", "tag": "live"})
        await client.event()
        await client.send({"op": "submit", "request": "x", "wait": True, "tag": "kept"})
        await client.until("progress")
        door.cancel()
        events = [await client.event(), await client.event()]
        closed = await client.ended()

    assert {e["tag"]: e["error"]["code"] for e in events} == {
        "live": "interrupted",
        "kept": "interrupted",
    }
    assert closed


async def test_the_socket_file(desk: FakeDesk, path: Path) -> None:
    """Its folder is private, its mode is as configured, and it is gone at the end."""
    group = grp.getgrgid(os.getgid()).gr_name
    async with serving(path, desk, mode=0o640, group=group):
        found = path.stat()
        folder = path.parent.stat()

    assert stat.S_IMODE(found.st_mode) == 0o640
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert found.st_gid == os.getgid()
    assert list(path.parent.iterdir()) == []


async def test_a_stale_socket_file_is_replaced(desk: FakeDesk, path: Path) -> None:
    """A crash leaves the file; nobody listens behind it."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(path, desk), connected(path) as client:
        await client.send({"op": "status"})
        status = await client.event()

    assert status["event"] == "status"


async def test_a_second_daemon_is_refused(desk: FakeDesk, path: Path) -> None:
    """The first one keeps its socket."""
    async with serving(path, desk):
        second = SocketDoor(path=path, mode=0o660, group="", desk=desk, max_request_bytes=LIMIT)
        with pytest.raises(ConfigError, match="another daemon listens"):
            await second.run(lambda: None)
        async with connected(path) as client:
            await client.send({"op": "status"})
            status = await client.event()

    assert status["event"] == "status"


async def test_a_file_that_is_no_socket_is_left_alone(desk: FakeDesk, path: Path) -> None:
    """It may be somebody's data."""
    path.parent.mkdir()
    path.write_text("precious")
    door = SocketDoor(path=path, mode=0o660, group="", desk=desk, max_request_bytes=LIMIT)
    with pytest.raises(ConfigError, match="is no socket"):
        await door.run(lambda: None)

    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "group", "words"),
    [
        ("wattnap.sock", "no-such-group", "there is no group"),
        ("x" * 120, "", "too long"),
    ],
)
async def test_a_socket_that_cannot_be_made(
    path: str, group: str, words: str, desk: FakeDesk, tmp_path: Path
) -> None:
    """The error names the setting, and nothing is left."""
    door = SocketDoor(
        path=tmp_path / path, mode=0o660, group=group, desk=desk, max_request_bytes=LIMIT
    )
    with pytest.raises(ConfigError, match=f"socket.*{words}"):
        await door.run(lambda: None)

    assert list(tmp_path.iterdir()) == []


ACTIVATED = """
import asyncio, os, sys
from pathlib import Path
from appliance.doors.socket import SocketDoor
from tests.fakes.desk import FakeDesk

os.environ["LISTEN_PID"] = str(os.getpid())
os.dup2(int(os.environ["FD"]), 3)
async def main():
    door = SocketDoor(
        path=Path("/nonexistent/x"), mode=0o600, group="", desk=FakeDesk(), max_request_bytes=1024
    )
    await door.run(lambda: print("ready", flush=True))
asyncio.run(main())
"""


async def test_a_socket_from_systemd_is_used_and_kept(path: Path) -> None:
    """The file is systemd's: it outlives us, so that nobody is ever refused."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        descriptor = str(listener.fileno())
        told = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "wattnap", "FD": descriptor}
        environment = os.environ | told
        child = subprocess.Popen(
            [sys.executable, "-c", ACTIVATED],
            pass_fds=[listener.fileno()],
            env=environment,
            stdout=subprocess.PIPE,
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            async with connected(path) as client:
                await client.send({"op": "status"})
                status = await client.event()
            child.terminate()

    assert status["event"] == "status"
    assert path.exists()


def test_the_protocol_is_described() -> None:
    """docs/socket.md has each op, and each error that can be told."""
    page = (Path(__file__).parents[3] / "docs" / "socket.md").read_text()
    ops = OPS.split(", ")
    told = ApplianceError.__subclasses__() + BadRequest.__subclasses__()
    codes = [kind.code for kind in told if kind is not CommandError]

    assert [op for op in ops if f"| `{op}` |" not in page] == []
    assert [code for code in codes if f"`{code}`" not in page] == []
