"""What a client of the HTTP door sends, read without trusting it."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, hdrs
from aiohttp.web_request import BaseRequest

from appliance import refusal
from appliance.doors.http_problem import Problem
from appliance.errors import BadRequest, TooLarge

T = TypeVar("T")
Body = TypeVar("Body", bytes, bytearray)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read(request: BaseRequest, *, limit_bytes: int, stalled_s: float) -> bytes:
    """The body, which is JSON by its own word.

    A page in a browser cannot say so without being asked whether it may (CORS).

    Raises TooLarge, or Problem.
    """
    if request.content_type != "application/json":
        raise Problem(415, "not_json", "send JSON, and say so: Content-Type: application/json")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise Problem(415, "encoded", "send the body as it is, without Content-Encoding")
    if (announced := request.content_length) is not None and announced > limit_bytes:
        raise TooLarge(announced, limit_bytes)
    await _encourage(request)
    if request.content.is_eof():  # it came with the headers, as most do
        return _limited(request.content.read_nowait(), limit_bytes)
    body = bytearray()
    try:
        while True:
            async with asyncio.timeout(stalled_s):
                piece = await request.content.readany()
            if not piece:
                return bytes(body)
            body += piece
            _limited(body, limit_bytes)
    except TimeoutError as error:
        late = f"nothing came for {stalled_s:.0f} s in the middle of the body"
        raise Problem(408, "request_timeout", late) from error


async def read_as(kind: type[T], request: BaseRequest, *, stalled_s: float) -> T:
    """A small body of fields that may all be left out, and so may the body. Raises BadRequest."""
    raw = b"{}"
    if request.body_exists:
        raw = await read(request, limit_bytes=4096, stalled_s=stalled_s) or raw
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(*refusal.of_json(error, raw, kind)) from error


def _limited(body: Body, limit_bytes: int) -> Body:
    if len(body) > limit_bytes:
        raise TooLarge(len(body), limit_bytes)
    return body


async def _encourage(request: BaseRequest) -> None:
    """Who asks first whether the body is wanted, curl with a large one, is told that it is."""
    asks = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if asks and request.version >= HttpVersion11:
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # of the response nothing is sent yet
