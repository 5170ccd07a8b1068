"""One attempt: a request goes to the engine, its streamed answer is put together.

The engine is always asked to stream, with usage: that gives the time to the
first token, shows a stalled engine, and lets a cancelled request end at once.
What the client sees is the same as without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from appliance.clock import Clock
from appliance.errors import EngineRefused
from drivers.protocols import Engine, Reply

OURS = b'"stream":true,"stream_options":{"include_usage":true}'


class AttemptFailed(Exception):
    """The engine lives, but this attempt came to nothing. It may be tried again."""


class Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Served(Struct, kw_only=True):
    """An answer, put together.

    message        OpenAI's assistant message: role, content, tool_calls …
    first_token_s  on the boot clock; None: it said nothing
    """

    message: dict[str, Any]  # JSON
    finish_reason: str | None
    usage: Usage | None
    first_token_s: float | None
    logprobs: dict[str, Any] | None = None  # JSON


class _Choice(Struct, frozen=True):
    delta: dict[str, Any] = {}  # JSON
    text: str = ""  # of a completion that is no chat
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None  # JSON


class _Chunk(Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None  # JSON: an object or a string, by version


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


async def serve(
    engine: Engine,
    *,
    path: str,
    body: bytes,
    model: str,
    priority: int,
    clock: Clock,
    tell: Callable[[str], Awaitable[None]] | None,
    relay: Callable[[bytes], Awaitable[None]] | None = None,
) -> Served:
    """Run one attempt to its end. `tell` is given the text as it comes, in pieces.

    `relay` is given the engine's own events, as many as came together: `[DONE]` and the
    usage that we ask for among them.

    Raises:
        EngineRefused: the engine said no; it will again.
        AttemptFailed: it broke off in the middle.
        DriverError: the engine itself is in trouble.
    """
    async with engine.request(path, engine_body(body, model, priority), stream=True) as reply:
        if reply.status != 200:
            raise await _refusal(reply)
        served = Served(
            message={"role": "assistant", "content": ""},
            finish_reason=None,
            usage=None,
            first_token_s=None,
        )
        text: list[str] = []
        complete = False
        async for events in reply.chunks:
            # What arrived together is told together: a fast engine costs one part
            # per read, not one per token.
            pieces = []
            for data in _data(events):
                if data == b"[DONE]":
                    complete = True
                else:
                    pieces.append(_add(served, _decode(data)))
            piece = "".join(pieces)
            if served.first_token_s is None and (piece or len(served.message) > 2):
                served.first_token_s = clock.now()
            if piece:
                text.append(piece)
                if tell is not None:
                    await tell(piece)
            if relay is not None:
                await relay(events)
    served.message["content"] = "".join(text)
    if not complete or served.finish_reason in {None, "abort"}:
        raise AttemptFailed("the engine broke off in the middle of the answer")
    return served


def engine_body(body: bytes, model: str, priority: int) -> bytes:
    """What the engine is sent: the request's fields, and ours before them.

    Spliced, not decoded again: a body may be a megabyte. `body` is a non-empty object.
    """
    ours = b'{"model":' + msgspec.json.encode(model) + b"," + OURS
    if priority:
        ours += b',"priority":%d' % priority
    return ours + b"," + body[1:]


def _data(events: bytes) -> list[bytes]:
    """The payloads of some whole server-sent events. Comments and other fields are skipped."""
    return [
        line[5:].strip()
        for line in events.replace(b"\r\n", b"\n").split(b"\n")
        if line.startswith(b"data:")
    ]


def _decode(data: bytes) -> _Chunk:
    try:
        chunk = _decode_chunk(data)
    except msgspec.DecodeError as error:
        raise AttemptFailed(f"the engine's answer cannot be read: {error}") from error
    if chunk.error is not None:
        told = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
        raise AttemptFailed(f"the engine reported: {told}")
    return chunk


def _add(served: Served, chunk: _Chunk) -> str:
    """Fold one chunk in; the text that it brought."""
    if chunk.usage is not None:
        served.usage = chunk.usage
    if not chunk.choices:
        return ""
    choice = chunk.choices[0]
    if choice.finish_reason is not None:
        served.finish_reason = choice.finish_reason
    if choice.logprobs:
        kept = served.logprobs or {}
        for name, values in choice.logprobs.items():
            kept[name] = (kept.get(name) or []) + (values or [])
        served.logprobs = kept
    for name, value in choice.delta.items():
        if name in {"role", "content"} or value is None:
            continue
        if name == "tool_calls":
            _add_tool_calls(served.message.setdefault("tool_calls", []), value)
        elif isinstance(value, str):
            served.message[name] = served.message.get(name, "") + value
        else:
            served.message[name] = value
    content = choice.delta.get("content")
    return content if isinstance(content, str) else choice.text


def _add_tool_calls(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    """Tool calls come in pieces: the first names the function, all extend its arguments."""
    for delta in deltas:
        index = delta.get("index", len(calls))
        while len(calls) <= index:
            calls.append({"id": None, "type": "function", "function": {"arguments": ""}})
        call, function = calls[index], delta.get("function") or {}
        call["id"] = call["id"] or delta.get("id")
        if function.get("name"):
            call["function"]["name"] = function["name"]
        call["function"]["arguments"] += function.get("arguments") or ""


async def _refusal(reply: Reply) -> Exception:
    """What an answer other than 200 means."""
    raw = b"".join([chunk async for chunk in reply.chunks])
    try:
        told = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        told = {}
    error = told.get("error", told) if isinstance(told, dict) else {}
    message = error.get("message") if isinstance(error, dict) else str(error)
    message = message or raw[:200].decode(errors="replace") or "no reason given"
    if 400 <= reply.status < 500 and reply.status not in {408, 429}:
        return EngineRefused(reply.status, message)
    return AttemptFailed(f"the engine answered {reply.status}: {message}")
