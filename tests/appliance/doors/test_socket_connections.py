"""The socket door's connections, from the first to the last, and its file."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.doors.socket import MAX_CONNECTIONS, STALLED_S, SocketDoor
from appliance.doors.socket_connection import MAX_OPS, Connection
from appliance.errors import BadRequest, ConfigError
from appliance.socket_client import Daemon
from tests.appliance.doors.socket_doors import LIMIT, connected, serving
from tests.fakes.desk import FakeDesk

ME = f"uid:{os.getuid()}"


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


def test_the_client_sends_nothing_that_is_nested_too_deep(path: Path) -> None:
    """Python's JSON goes only so far: it is said, and the connection is as it was."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with Daemon(path) as client, pytest.raises(BadRequest, match="nested too deep"):
            list(client.call("submit", request=deep))
