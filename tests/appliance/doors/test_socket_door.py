"""The socket door over a real unix socket, with a desk that has no engine: what it is asked."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import get_args

import pytest

from appliance.desk import Calibrate
from appliance.doors.socket_lines import AnyOp
from appliance.errors import (
    ApplianceError,
    BadRequest,
    CommandError,
    InboxFull,
    WakeFailed,
)
from appliance.notices import Baking, Calibrating
from tests.appliance.doors.socket_doors import LIMIT, connected, serving
from tests.fakes.desk import FakeDesk

ME = f"uid:{os.getuid()}"


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


def test_the_protocol_is_described() -> None:
    """docs/socket.md has each op, and each error that can be told."""
    page = (Path(__file__).parents[3] / "docs" / "socket.md").read_text()
    ops = [op.__struct_config__.tag for op in get_args(AnyOp)]
    told = ApplianceError.__subclasses__() + BadRequest.__subclasses__()
    codes = [kind.code for kind in told if kind is not CommandError]

    assert [op for op in ops if f"| `{op}` |" not in page] == []
    assert [code for code in codes if f"`{code}`" not in page] == []
