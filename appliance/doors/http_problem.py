"""What is said to a client of the HTTP door that cannot be served, as OpenAI says it.

    {"error": {"message", "type", "param", "code"}}

ApplianceErrors bring their status along; what only HTTP can get wrong is a Problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from appliance.errors import ApplianceError, BadRequest

TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class Problem(Exception):
    """A request that is none, or not for this client. Nothing was begun or written down."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def problem(error: ApplianceError | Problem) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body (JSON)."""
    if isinstance(error, Problem):
        told = {"code": error.code, "message": str(error)}
        return error.status, error.headers, wrapped(error.status, told)
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    param = error.field if isinstance(error, BadRequest) else None
    return error.http_status, headers, wrapped(error.http_status, error.as_dict(), param)


def wrapped(status: int, error: Mapping[str, Any], param: str | None = None) -> dict[str, Any]:
    """`error` is an ApplianceError's `as_dict`, `param` the field that it is about."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    about = {
        "message": error["message"],
        "type": TYPES.get(HTTPStatus(status) if status != 499 else HTTPStatus.OK, kind),
        "param": param,
        "code": error["code"],
    }
    return {"error": about | {k: v for k, v in error.items() if k not in about}}


def told(error: ApplianceError | Problem, headers: Mapping[str, str]) -> web.Response:
    """The whole response."""
    status, more, body = problem(error)
    return as_json(body, {**headers, **more}, status)


def as_json(body: Any, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """`body`: what msgspec can write, or bytes that are JSON already."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(body=raw, status=status, headers=headers, content_type="application/json")
