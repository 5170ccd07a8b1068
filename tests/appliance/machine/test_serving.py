"""Putting a streamed answer together, from chunks as vLLM 0.32 sends them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from appliance.errors import EngineRefused
from appliance.machine.serving import AttemptFailed, Served, engine_body, serve
from drivers.fake import FakeEngine
from drivers.protocols import Reply
from tests.fake_clock import FakeClock


class Scripted(FakeEngine):
    """Answers with these bytes, in these pieces."""

    def __init__(self, *chunks: bytes, status: int = 200) -> None:
        super().__init__()
        self.chunks, self.status = chunks, status

    def request(self, path: str, body: bytes, *, stream: bool) -> Any:
        return self._scripted()

    @contextlib.asynccontextmanager
    async def _scripted(self) -> AsyncIterator[Reply]:
        async def pieces() -> AsyncIterator[bytes]:
            for chunk in self.chunks:
                yield chunk

        yield Reply(self.status, {}, pieces())


def event(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None} | more
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STOP = event({}, finish_reason="stop")
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
)


async def served(engine: FakeEngine, told: list[str] | None = None) -> Served:
    async def tell(text: str) -> None:
        assert told is not None
        told.append(text)

    return await serve(
        engine,
        path="/v1/chat/completions",
        body=b'{"messages":[]}',
        model="main",
        priority=0,
        clock=FakeClock(),
        tell=None if told is None else tell,
    )


async def test_text_usage_and_end() -> None:
    """Role first, words after; events that come together are told together."""
    told: list[str] = []
    engine = Scripted(
        event({"role": "assistant", "content": ""}),
        event({"content": "Hel"}) + event({"content": "lo"}),
        STOP + USAGE + DONE,
    )
    result = await served(engine, told)

    assert result.message == {"role": "assistant", "content": "Hello"}
    assert result.usage is not None
    assert result.usage.completion_tokens == 2
    assert result.finish_reason == "stop"
    assert told == ["Hello"]


async def test_tool_calls_are_joined() -> None:
    """The name comes once, the arguments in pieces, two calls side by side."""
    call = {"id": "c1", "type": "function", "function": {"name": "set", "arguments": '{"a"'}}
    engine = Scripted(
        event({"tool_calls": [{"index": 0, **call}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        event({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "get"}}]}),
        event({}, finish_reason="tool_calls") + DONE,
    )
    calls = (await served(engine)).message["tool_calls"]

    assert [c["function"] for c in calls] == [
        {"name": "set", "arguments": '{"a":1}'},
        {"name": "get", "arguments": ""},
    ]


async def test_reasoning_and_logprobs_are_kept() -> None:
    """Other text fields of the message are joined too."""
    engine = Scripted(
        event({"reasoning_content": "hm"}),
        event({"reasoning_content": "m", "content": "ok"}, logprobs={"content": [1]}),
        event({}, finish_reason="stop", logprobs={"content": [2]}) + DONE,
    )
    result = await served(engine)

    assert result.message["reasoning_content"] == "hmm"
    assert result.logprobs == {"content": [1, 2]}


@pytest.mark.parametrize(
    "chunks",
    [
        [event({"content": "a"})],
        [event({"content": "a"}), STOP],
        [event({"content": "a"}, finish_reason="abort") + DONE],
        [b'data: {"error":{"message":"EngineCore died","code":500}}\n\n' + DONE],
        [b"data: {not json\n\n"],
    ],
    ids=["cut", "no end", "aborted", "error", "nonsense"],
)
async def test_an_answer_without_a_proper_end_is_a_failed_attempt(chunks: list[bytes]) -> None:
    """Never handed out as if it were whole."""
    with pytest.raises(AttemptFailed):
        await served(Scripted(*chunks))


@pytest.mark.parametrize(("status", "kind"), [(400, EngineRefused), (404, EngineRefused)])
async def test_a_refusal_says_the_engine_s_reason(status: int, kind: type[Exception]) -> None:
    """4xx: it would say so again."""
    with pytest.raises(kind, match="too long"):
        await served(Scripted(b'{"error":{"message":"too long"}}', status=status))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_trouble_inside_the_engine_may_be_tried_again(status: int) -> None:
    """5xx and overload are not the request's fault."""
    with pytest.raises(AttemptFailed, match="oops"):
        await served(Scripted(b"oops", status=status))


def test_our_fields_are_spliced_in() -> None:
    """Model, streaming, usage, priority; the rest is untouched."""
    spliced = json.loads(engine_body(b'{"messages":[],"seed":1}', "a-model", -2))

    assert spliced == {
        "model": "a-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "priority": -2,
        "messages": [],
        "seed": 1,
    }
