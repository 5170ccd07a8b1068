"""From an answer as every door gives it to OpenAI's completion."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from appliance.errors import http_status_of

NULL = Raw(b"null")


class Given(Struct, kw_only=True):
    """An answer of the appliance, or its failure; only what changes its place is read."""

    id: str
    model: str = ""
    text: Raw = NULL
    message: Raw = NULL
    finish_reason: str | None = None
    usage: Raw = NULL
    logprobs: Raw = NULL
    energy: Raw = NULL
    timing: Raw = NULL
    error: dict[str, Any] | None = None  # JSON

    @property
    def ours(self) -> dict[str, Any]:
        """What no other server says."""
        return {"id": self.id, "energy": self.energy, "timing": self.timing}


given = msgspec.json.Decoder(Given).decode


def completion(answer: Given, created_s: int) -> dict[str, Any]:
    """OpenAI's object, with our fields under "wattnap"."""
    choice: dict[str, Any] = {"index": 0}
    if answer.message != NULL:
        kind, name, choice["message"] = "chat.completion", "chatcmpl", _message(answer.message)
    else:
        kind, name, choice["text"] = "text_completion", "cmpl", answer.text
    choice |= {"logprobs": answer.logprobs, "finish_reason": answer.finish_reason}
    return {
        "id": f"{name}-{answer.id}",
        "object": kind,
        "created": created_s,
        "model": answer.model,
        "choices": [choice],
        "usage": answer.usage,
        "wattnap": answer.ours,
    }


def failed_status(error: dict[str, Any]) -> int:
    return http_status_of(error["code"])


def _message(written: Raw) -> Any:  # JSON
    """A message that only calls tools has no content."""
    if b'"tool_calls"' not in bytes(written):
        return written
    message = msgspec.json.decode(written)
    if message.get("tool_calls") and message["content"] == "":
        message["content"] = None
    return message
