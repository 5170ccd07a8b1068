"""What may stand in one line of the socket's protocol, and how it is understood.

One JSON object per line each way (docs/socket.md). Everything about the form is
decided here; `appliance.doors.socket` carries it out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from appliance.errors import ApplianceError, BadRequest
from appliance.refusal import of_json
from appliance.request import ID, UTF8_BOM, Id

TAG_CHARS = 128
Tag = Annotated[str, Meta(max_length=TAG_CHARS)] | int
Depth = Annotated[str, Meta(max_length=32)]
KeepWarm = Annotated[float, Meta(ge=0, le=30 * 86400)]


class Op(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """One line from a client. `tag` is echoed in every event that it causes."""

    tag: Tag | None = None


class Submit(Op, frozen=True, kw_only=True, tag="submit"):
    """Take it durably; with `wait`, go on until it is answered."""

    request: Raw
    id: Id | None = None
    wait: bool = False


class Ask(Op, frozen=True, kw_only=True, tag="ask"):
    """Answer it now, for as long as this connection lives."""

    request: Raw
    id: Id | None = None


class Fetch(Op, frozen=True, kw_only=True, tag="answer"):
    """The answer of an earlier `submit`; with `wait`, once it is there."""

    id: Id
    wait: bool = False


class Cancel(Op, frozen=True, kw_only=True, tag="cancel"):
    """Take a request back: one's own, or, as the operator, one of another door.

    Whoever may speak here may also send the engine to rest; so that is no new power.
    """

    id: Id
    door: Literal["socket", "mqtt", "http"] = "socket"
    client: str | None = None


class Status(Op, frozen=True, kw_only=True, tag="status"):
    pass


class Wake(Op, frozen=True, kw_only=True, tag="wake"):
    keep_warm_s: KeepWarm = 0.0


class Rest(Op, frozen=True, kw_only=True, tag="rest"):
    depth: Depth | None = None


class Bake(Op, frozen=True, kw_only=True, tag="bake"):
    again: bool = False


class Calibrate(Op, frozen=True, kw_only=True, tag="calibrate"):
    cycles: Annotated[int, Meta(ge=1, le=50)] = 3
    over_s: Annotated[float, Meta(ge=5, le=600)] = 60.0
    again: bool = False


class Why(Op, frozen=True, kw_only=True, tag="why"):
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


AnyOp = Submit | Ask | Fetch | Cancel | Status | Wake | Rest | Bake | Calibrate | Why


class Hint(Struct, frozen=True):
    """What can be read of a line that is no op: enough to say so to the right caller."""

    op: Any = None  # any JSON
    tag: Any = None
    id: Any = None

    @property
    def is_request(self) -> bool:
        """Somebody wanted an answer, as far as one can see."""
        return self.op in {"submit", "ask"} if isinstance(self.op, str) else self.op is None


class Identified(Struct):
    id: str | None = None


_ops: msgspec.json.Decoder[AnyOp] = msgspec.json.Decoder(AnyOp)
_hints = msgspec.json.Decoder(Hint)
_texts = msgspec.json.Decoder(str)
_ids = msgspec.json.Decoder(Identified)


def understand(line: bytes) -> AnyOp:
    """Raises BadRequest, naming the field."""
    if not line.strip():
        raise BadRequest("the line is empty; send one JSON object per line")
    try:
        return _ops.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(*of_json(error, line, AnyOp)) from error


def hint(line: bytes) -> Hint:
    """What can be read of what `understand` refused. A tag or an id that is none is left out."""
    try:
        found = _hints.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Hint()
    op, tag, id = found.op, found.tag, found.id
    is_tag = type(tag) is int or (isinstance(tag, str) and len(tag) <= TAG_CHARS)
    is_id = isinstance(id, str) and ID.fullmatch(id)
    return Hint(op=op, tag=tag if is_tag else None, id=id if is_id else None)


def payload(request: Raw) -> bytes:
    """What `appliance.request.parse` is to read: a string is plain text, whatever it says.

    Raises BadRequest if it is neither a string nor an object.
    """
    written = bytes(request)
    if written.startswith(b"{"):
        return written
    try:
        text = _texts.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        told = of_json(error, written, str | dict[str, Any]).message
        raise BadRequest(f"request: {told}", "request") from error
    if "\0" in text:
        raise BadRequest("request: plain text must not contain NUL")
    plain = text.encode()
    if plain.startswith(UTF8_BOM) or text.lstrip()[:1] in {"{", "["}:
        return msgspec.json.encode({"prompt": text})
    return plain


def event(name: str, tag: Tag | None, **fields: object) -> bytes:
    """One line to a client. Fields that are None are left out."""
    told = {"event": name, "tag": tag, **fields}
    return msgspec.json.encode({k: v for k, v in told.items() if v is not None}) + b"\n"


def answered(tag: Tag | None, answer: bytes) -> bytes:
    """The event that ends a request: the stored bytes, untouched."""
    return event("answer", tag, id=_ids.decode(answer).id, answer=Raw(answer))


def failed(tag: Tag | None, id: str | None, error: ApplianceError) -> bytes:
    return event("error", tag, id=id, error=error.as_dict())
