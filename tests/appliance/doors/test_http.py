"""The HTTP door over real TCP, with a desk that has no engine: prompts and answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
    EngineRefused,
    Expired,
    GaveUp,
    Gone,
    InboxFull,
    StorageFailed,
    UnknownModel,
    WakeFailed,
)
from tests.appliance.doors.http_doors import (
    CHAT,
    TEXT,
    asked,
    serving,
)
from tests.fakes.desk import FakeDesk


def events(streamed: bytes) -> list[Any]:
    """The payloads, without comments; `[DONE]` as a string."""
    lines = [line[6:] for line in streamed.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) if line != b"[DONE]" else "[DONE]" for line in lines]


async def test_a_chat_is_answered_as_openai_does(desk: FakeDesk) -> None:
    """One object, our fields under "wattnap", the request's id in a header."""
    async with serving(desk) as door, door.session.post(CHAT, json=asked("hello there")) as reply:
        told = await reply.json()

    assert reply.headers["X-Request-Id"] == reply.headers["Wattnap-Id"] == "made-1"
    assert (told["id"], told["object"], told["model"]) == (
        "chatcmpl-made-1",
        "chat.completion",
        "main",
    )
    assert told["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello there"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert told["wattnap"]["id"] == "made-1"


async def test_a_text_goes_on(desk: FakeDesk) -> None:
    """The older API: a prompt, and text."""
    async with serving(desk) as door:
        status, told = await door.ask("one two", path=TEXT, max_tokens=5, logprobs=2)

    assert status == 200
    assert (told["object"], told["choices"][0]["text"]) == ("text_completion", "one two")
    assert desk.calls[0].path == TEXT
    assert json.loads(desk.calls[0].body) == {"prompt": "one two", "max_tokens": 5, "logprobs": 2}


@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_stream_has_the_engines_own_events(path: str, desk: FakeDesk) -> None:
    """Unchanged, in order; the usage that the daemon asked for is not the client's."""
    async with serving(desk) as door:
        plain = await door.stream("one two", path=path)
        with_usage = await door.stream("one two", path=path, stream_options={"include_usage": True})

    said = events(plain)
    kind = "delta" if path == CHAT else "text"
    texts = [choice[kind] for event in said[:-1] for choice in event["choices"]]
    assert texts == ([{"content": "one"}, {"content": " two"}] if path == CHAT else ["one", " two"])
    assert said[-1] == "[DONE]"
    assert all("usage" not in event for event in said[:-1])
    assert events(with_usage)[:-2] == said[:-1]
    assert events(with_usage)[-2]["usage"]["completion_tokens"] == 2


async def test_the_energy_of_a_stream_is_in_a_comment(desk: FakeDesk) -> None:
    """Clients skip it; who looks finds the id and the joules, before [DONE]."""
    async with serving(desk) as door:
        streamed = await door.stream("one")

    comment, done, end = streamed.split(b"\n\n")[-3:]
    assert json.loads(comment.removeprefix(b": "))["wattnap"]["id"] == "made-1"
    assert (done, end) == (b"data: [DONE]", b"")


async def test_a_silent_stream_says_why(desk: FakeDesk) -> None:
    """Before proxies take it for dead; up to then even the status is open."""
    desk.gate.clear()
    async with serving(desk, silent_s=0.1) as door:
        body = asked("one", stream=True)
        async with door.session.post(CHAT, json=body) as reply:
            first = await reply.content.readuntil(b"\n\n")
            second = await reply.content.readuntil(b"\n\n")
            desk.gate.set()
            rest = await reply.read()

    assert first == second == b": waking, expected 20 s\n\n"
    assert events(rest)[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InboxFull(5, 7.2), 429, "rate_limit_error"),
        (WakeFailed("no GPU", 30), 503, "server_error"),
        (StorageFailed("full"), 503, "server_error"),
        (UnknownModel("x", ("main",)), 404, "invalid_request_error"),
        (EngineRefused(400, "too long"), 400, "invalid_request_error"),
        (Expired(3), 504, "server_error"),
        (GaveUp(3, "died"), 500, "server_error"),
    ],
)
async def test_errors_are_openais(
    error: ApplianceError, status: int, kind: str, stream: bool, desk: FakeDesk
) -> None:
    """The status is the error's own, also for a stream that has not begun."""
    desk.fail_next = error
    body = asked("x", stream=stream)
    async with serving(desk) as door, door.session.post(CHAT, json=body) as reply:
        told = await reply.json()

    assert reply.status == status
    assert (told["error"]["type"], told["error"]["code"]) == (kind, error.code)
    assert told["error"]["message"] == str(error)
    assert told["error"]["param"] is None
    after = {"inbox_full": "8", "wake_failed": "30", "storage": "30"}.get(error.code)
    assert reply.headers.get("Retry-After") == after


async def test_a_stream_that_breaks_off_says_so(desk: FakeDesk) -> None:
    """As an event, and without [DONE]: what came before is no whole answer."""
    desk.break_off = GaveUp(1, "it died")
    async with serving(desk) as door:
        said = events(await door.stream("one two"))

    assert said[0]["choices"][0]["delta"]["content"] == "one"
    assert said[1]["error"]["code"] == "gave_up"
    assert len(said) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (asked("x", temperature=3), "temperature"),
        (asked("x", n=2), "n"),
        (asked("x", wattnap={"priority": 1000}), "wattnap.priority"),
        (asked("x", colour="red"), "colour"),
        (asked("x", max_token=5), "max_token"),
        (asked("x", wattnap={"prio": 1}), "wattnap.prio"),
        (asked("x", model="a b"), "model"),
        ({"prompt": "x"}, "prompt"),
        ({}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ([], None),
        ("text", None),
    ],
)
async def test_what_cannot_be_understood(body: Any, param: str | None, desk: FakeDesk) -> None:
    """The field is named, the ledger has the refusal, nothing is asked of the engine."""
    async with serving(desk) as door:
        status, told = await door.post(CHAT, body)

    assert (status, told["error"]["code"], told["error"]["param"]) == (400, "bad_request", param)
    assert [(door, client) for door, client, *_ in desk.refusals] == [("http", "")]
    assert desk.calls == []


async def test_our_fields(desk: FakeDesk) -> None:
    """Under "wattnap", as at the other doors; an id of the sender's is its name."""
    ours = {"id": "kitchen", "class": "batch", "priority": -5, "deadline_s": 9}
    async with (
        serving(desk) as door,
        door.session.post(
            CHAT, json=asked("x", wattnap=ours), headers={"X-Request-Id": "trace-1"}
        ) as reply,
    ):
        assert reply.headers["Wattnap-Id"] == "kitchen"
        assert reply.headers["X-Request-Id"] == "trace-1"

    (request,) = desk.calls
    assert (request.id, request.klass, request.priority, request.deadline_s) == (
        "kitchen",
        "batch",
        -5,
        9,
    )
    assert b"wattnap" not in request.body


async def test_what_is_kept_is_answered_later(desk: FakeDesk) -> None:
    """202 after the commit, a place to ask at, and the answer there."""
    desk.held = True
    prefer = {"Prefer": "respond-async"}
    async with serving(desk) as door:
        async with door.session.post(CHAT, json=asked("hello"), headers=prefer) as reply:
            assert reply.status == 202
            assert await reply.json() == {"id": "made-1", "state": "waiting", "answer": None}
            place = reply.headers["Location"]
        assert await door.get(place) == (200, {"id": "made-1", "state": "waiting", "answer": None})
        desk.finish("http", "", "made-1")
        status, told = await door.get(place)

        assert (status, told["state"]) == (200, "done")
        assert told["answer"]["message"]["content"] == "hello"
        again = await door.ask("hello", wattnap={"id": "made-1", "durable": True})
        assert again == (200, told)


async def test_waiting_for_what_is_kept(desk: FakeDesk) -> None:
    """`Prefer: wait=`: answered when it has ended, or when the time is over."""
    desk.held = True
    async with serving(desk) as door:
        await door.ask("hello", wattnap={"id": "a", "durable": True})
        asking = asyncio.ensure_future(door.get("/v1/wattnap/requests/a", {"Prefer": "wait=10"}))
        assert [await desk.heard.get() for _ in range(2)] == ["accept", "find"]
        desk.finish("http", "", "a")
        assert (await asking)[1]["state"] == "done"

        await door.ask("hello", wattnap={"id": "b", "durable": True})
        status, told = await door.get("/v1/wattnap/requests/b", {"Prefer": "wait=1"})
        assert (status, told["state"]) == (200, "waiting")


async def test_taking_it_back(desk: FakeDesk) -> None:
    """DELETE, of one's own."""
    desk.held = True
    async with serving(desk) as door:
        await door.ask("hello", wattnap={"id": "a", "durable": True})
        async with door.session.delete("/v1/wattnap/requests/a") as reply:
            assert await reply.json() == {"id": "a", "cancelled": True}

    assert desk.cancelled == [("http", "", "a")]


async def test_an_idempotency_key_makes_a_repeat_harmless(desk: FakeDesk) -> None:
    """It is kept and answered once; with another body it is a conflict."""
    key = {"Idempotency-Key": '"k-1"'}
    async with serving(desk) as door:
        first = await door.ask("hello", headers=key)
        second = await door.ask("hello", headers=key)
        other = await door.ask("bye", headers=key)

    assert first[0] == second[0] == 200
    assert first[1]["choices"] == second[1]["choices"]
    assert first[1]["id"] == "chatcmpl-k-1"
    assert (other[0], other[1]["error"]["code"]) == (409, "conflict")
    assert [request.id for request, *_ in desk.accepted] == ["k-1"]
    assert desk.calls == []


async def test_a_kept_failure_has_its_status(desk: FakeDesk) -> None:
    """Whoever waited at the connection is told as a live caller is."""
    desk.held = True
    async with serving(desk) as door:
        asking = asyncio.ensure_future(door.ask("hello", headers={"Idempotency-Key": "k"}))
        assert await desk.heard.get() == "accept"
        desk.finish("http", "", "k", Expired(3))
        status, told = await asking

    assert (status, told["error"]["code"]) == (504, "expired")


async def test_what_is_kept_is_not_streamed(desk: FakeDesk) -> None:
    """It could not be, after a restart."""
    async with serving(desk) as door:
        status, told = await door.ask("x", stream=True, wattnap={"durable": True})

    assert (status, told["error"]["code"]) == (400, "bad_request")
    assert desk.accepted == []


async def test_unknown_and_forgotten_requests(desk: FakeDesk) -> None:
    """404, and 410 while only the id is known."""
    async with serving(desk) as door:
        unknown = await door.get("/v1/wattnap/requests/nobody")
        strange = await door.get("/v1/wattnap/requests/a%20b")
        desk.fail_find = Gone("old")
        gone = await door.get("/v1/wattnap/requests/old")

    assert [reply[0] for reply in (unknown, strange, gone)] == [404, 404, 410]


async def test_a_mistake_ends_no_other(desk: FakeDesk, caplog: pytest.LogCaptureFixture) -> None:
    """The one it hit is told, and the log says where it was."""
    desk.gate.clear()
    async with serving(desk) as door:
        asking = asyncio.ensure_future(door.ask("still there"))
        assert await desk.heard.get() == "call"
        desk.fail_next = RuntimeError("a mistake")
        status, told = await door.ask("x")
        desk.gate.set()

        assert (status, told["error"]["code"]) == (500, "internal")
        assert (await asking)[0] == 200
    assert "a mistake" in caplog.text


async def test_nesting(desk: FakeDesk) -> None:
    """Deep enough to break who reads it by recursion: refused."""
    body = b'{"messages":' + b"[" * 20_000
    async with (
        serving(desk) as door,
        door.session.post(CHAT, data=body, headers={"Content-Type": "application/json"}) as reply,
    ):
        assert reply.status == 400
