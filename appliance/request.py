"""From what a sender wrote to one request, the same at every door.

A payload is plain text, `{"prompt": …}`, or a whole OpenAI chat body; our own
fields stand under `"wattnap"`. What cannot be understood is refused here, in
words that name the field, before anything is stored or woken.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance import refusal
from appliance.errors import BadRequest, Loop, TooLarge

MAX_HOPS = 4
MAX_DEPTH = 200
"""Of arrays and objects in one another. JSON schemas for tools stay far below."""
CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"
UTF8_BOM = b"\xef\xbb\xbf"  # some editors put one before a file that is then published

ID = re.compile(r"[A-Za-z0-9._:@=-]{1,128}")

# Not $, which would let a line end pass.
Id = Annotated[
    str,
    Meta(
        pattern=rf"^{ID.pattern}\Z",
        max_length=128,
        description="1 to 128 of the characters A-Z a-z 0-9 . _ : @ = -",
    ),
]
Alias = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
        max_length=64,
        description="1 to 64 of the characters A-Z a-z 0-9 . _ -",
    ),
]
Tokens = Annotated[int, Meta(ge=1, le=1_000_000)]


class Extras(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"klass": "class"}
):
    """Our fields, under "wattnap" in a JSON payload; each door adds its own ways to say them.

    id              the sender's name for the request, unique for that sender
    model           alias of the engine's model
    klass           "interactive" wakes the engine now, "batch" may be deferred
    priority        smaller is served first
    deadline_s      seconds from acceptance after which nobody wants the answer
    stream          publish the answer's parts as they come
    durable         HTTP: keep it on disk, and answer with its id at once
    response_topic  MQTT 3.1.1: where to answer (MQTT 5 has a property)
    correlation     MQTT 3.1.1: echoed with the answer
    hops            how many times this text has been through an appliance
    """

    id: Id | None = None
    model: Alias | None = None
    klass: Literal["interactive", "batch"] = "interactive"
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    deadline_s: Annotated[float, Meta(gt=0, le=30 * 86400)] | None = None
    stream: bool = False
    durable: bool = False
    response_topic: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    correlation: Annotated[str, Meta(max_length=1024)] | None = None
    hops: Annotated[int, Meta(ge=0)] = 0


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What any body may say besides its prompt: OpenAI's fields, then vLLM's.

    Sources: OpenAI API reference, "Create chat completion" and "Create completion"; vLLM
    0.32 entrypoints/openai/chat_completion/protocol.py and completion/protocol.py.
    """

    model: str | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Literal[1] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None  # JSON, replaced by ours
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None  # JSON schema, checked by the engine
    user: str | None = None

    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    length_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    skip_special_tokens: bool | None = None
    structured_outputs: dict[str, Any] | None = None  # JSON, checked by the engine
    cache_salt: str | None = None

    wattnap: Extras = Extras()


class ChatSampling(Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a chat body may say besides."""

    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None  # JSON schemas, checked by the engine
    tool_choice: str | dict[str, Any] | None = None  # likewise
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, Any] | None = None  # the sender's own, passed on
    store: bool | None = None
    service_tier: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # JSON, the template's business
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class Message(Struct, frozen=True, kw_only=True):
    """One chat message. What else it carries is the engine's to check."""

    role: str
    content: str | list[dict[str, Any]] | None = None  # JSON parts


class ChatBody(ChatSampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1)]


class PromptBody(ChatSampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Annotated[str, Meta(min_length=1)]


class TextBody(Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's older "completions": the text goes on where the prompt ends."""

    prompt: Annotated[str, Meta(min_length=1)]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    add_special_tokens: bool | None = None


class Request(Struct, frozen=True, kw_only=True):
    """One request, understood. Nothing in it can be refused any more but by the engine.

    id          the sender's, or None: the intake makes one
    door        "mqtt", "socket" or "http"
    client      who sent it, as far as the door knows; ids are unique within (door, client)
    model       alias it asked for; None: the only one
    path, body  what the engine is sent, which is then always asked to stream
    form        how the answer is written: "text", or "message" for a chat body
    digest      of what was asked: equal digests are the same request
    verbatim    a live caller that streams is told the engine's own events, not parts
    """

    id: str | None
    door: str
    client: str
    model: str | None
    path: str
    body: bytes
    form: Literal["text", "message"]
    stream: bool
    klass: Literal["interactive", "batch"]
    priority: int
    deadline_s: float | None
    hops: int
    digest: bytes
    verbatim: bool = False


class _Named(Struct):
    id: Id | None
    model: Alias | None


_decoders = {kind: msgspec.json.Decoder(kind) for kind in (ChatBody, PromptBody, TextBody)}


def parse(
    payload: bytes,
    *,
    door: str,
    client: str = "",
    limit_bytes: int,
    path: str = "",
    id: str | None = None,
    model: str | None = None,
    deadline_s: float | None = None,
    hops: int = 0,
) -> tuple[Request, Extras]:
    """Understand one payload. What the door knows itself wins over the payload's fields.

    `path`: of the engine, that the sender has named: then it is a body for that path, and
    nothing else. Without: plain text, or JSON that tells by its fields what it is.

    Raises BadRequest (or TooLarge, Loop), naming the field.
    """
    if len(payload) > limit_bytes:
        raise TooLarge(len(payload), limit_bytes)
    payload = payload.removeprefix(UTF8_BOM)
    if not payload.strip():
        raise BadRequest("the payload is empty; send text, or JSON with `prompt` or `messages`")
    if path or payload.lstrip()[:1] in (b"{", b"["):
        fields, form, extras = _understand_json(payload, path)
    else:
        fields, form, extras = _understand_text(payload)
    hops = max(hops, extras.hops)
    if hops >= MAX_HOPS:
        raise Loop(hops, MAX_HOPS)
    id, model = id or extras.id, model or extras.model or fields.pop("model", None)
    _check_names(id, model)
    asked_to_stream = bool(fields.pop("stream", False)) or extras.stream
    fields.pop("model", None)
    body = msgspec.json.encode(fields)
    asked = (form.encode(), (model or "").encode(), body)
    request = Request(
        id=id,
        door=door,
        client=client,
        model=model,
        path=path or CHAT_PATH,
        body=body,
        form=form,
        stream=asked_to_stream,
        klass=extras.klass,
        priority=extras.priority,
        deadline_s=deadline_s if deadline_s is not None else extras.deadline_s,
        hops=hops,
        digest=hashlib.sha256(b"\0".join(asked)).digest(),
        verbatim=bool(path),
    )
    return request, extras


def _check_names(id: str | None, model: str | None) -> None:
    """Also of what a door knows itself."""
    named = {"id": id, "model": model}
    try:
        msgspec.convert(named, _Named)
    except msgspec.ValidationError as error:
        raise BadRequest(*refusal.of_value(error, named, _Named)) from error


def _understand_json(
    payload: bytes, path: str
) -> tuple[dict[str, Any], Literal["text", "message"], Extras]:
    """Check against the structs, then go on with what was sent: absent stays absent."""
    try:
        fields = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not JSON: {error}") from error
    if _is_deep(fields, payload):
        raise BadRequest(f"nested more than {MAX_DEPTH} deep")
    if not isinstance(fields, dict):
        raise BadRequest("a JSON payload must be an object with `prompt` or `messages`")
    if not path and ("prompt" in fields) == ("messages" in fields):
        raise BadRequest("a JSON payload needs either `prompt` or `messages`")
    kind: type[TextBody | ChatBody | PromptBody] = PromptBody
    if path == TEXT_PATH:
        kind = TextBody
    elif path == CHAT_PATH or "messages" in fields:
        kind = ChatBody
    try:
        extras = _decoders[kind].decode(payload).wattnap
    except msgspec.ValidationError as error:
        raise BadRequest(*refusal.of_value(error, fields, kind)) from error
    if kind is PromptBody:
        fields["messages"] = [{"role": "user", "content": fields.pop("prompt")}]
    fields.pop("wattnap", None)
    fields.pop("stream_options", None)
    return fields, "message" if kind is ChatBody else "text", extras


def _is_deep(value: Any, payload: bytes) -> bool:
    """Deeper than MAX_DEPTH: whoever reads it by recursion (vLLM, tools) might not survive it."""
    if payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _understand_text(payload: bytes) -> tuple[dict[str, Any], Literal["text", "message"], Extras]:
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"plain text must be UTF-8: {error}") from error
    if "\0" in text:
        raise BadRequest("plain text must not contain NUL")
    return {"messages": [{"role": "user", "content": text}]}, "text", Extras()
