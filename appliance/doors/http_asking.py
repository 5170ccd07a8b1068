"""Prompts at the HTTP door: live ones, streamed or whole, and those that are kept on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from aiohttp import hdrs
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from msgspec import Raw, Struct

from appliance.clock import Clock
from appliance.desk import Answer, Desk, Receipt
from appliance.doors import http_events as events
from appliance.doors.following import ENDED, Followed
from appliance.doors.http_answer import Given, completion, failed_status, given
from appliance.doors.http_body import read
from appliance.doors.http_problem import Problem, as_json, problem, wrapped
from appliance.errors import ApplianceError, BadRequest, Gone
from appliance.notices import Progress, Subscription, Verbatim
from appliance.request import ID, UTF8_BOM, Request, parse

DOOR = "http"
LONGEST_WAIT_S = 300.0
"""For `Prefer: wait=`."""


class _Asked(Struct):
    """Of a body that was understood, what only this door has to know."""

    stream_options: dict[str, Any] | None = None  # JSON

    @property
    def usage(self) -> bool:
        return bool((self.stream_options or {}).get("include_usage"))


_asked = msgspec.json.Decoder(_Asked)


class Asking:
    """Carries prompts to the desk, and answers back.

    `spawn` has a coroutine run for as long as the door is open.
    """

    def __init__(
        self,
        desk: Desk,
        clock: Clock,
        *,
        max_request_bytes: int,
        stalled_s: float,
        silent_s: float,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._desk, self._clock, self._spawn = desk, clock, spawn
        self._max_request_bytes = max_request_bytes
        self._stalled_s, self._silent_s = stalled_s, silent_s

    async def ask(
        self, http: BaseRequest, path: str, client: str, headers: Mapping[str, str]
    ) -> StreamResponse:
        """A body for the engine's `path`, answered. Raises ApplianceError or Problem."""
        key, prefers = idempotency_key(http), preferences(http)
        try:
            payload = await read(
                http, limit_bytes=self._max_request_bytes, stalled_s=self._stalled_s
            )
            request, extras = parse(
                payload,
                door=DOOR,
                client=client,
                limit_bytes=self._max_request_bytes,
                path=path,
                id=key,
            )
            durable = extras.durable or "respond-async" in prefers
            if durable and request.stream:
                told = "stream: what is kept on disk is answered whole; leave it out"
                raise BadRequest(told, "stream")
            if durable:
                return self._told(await self._desk.accept(request), headers)
            if key is not None and not request.stream:
                return await self._once(request, headers)
            if request.stream:
                return await self._stream(
                    http, request, _asked.decode(payload.removeprefix(UTF8_BOM)).usage, headers
                )
            return await self._whole(http, request, headers)
        except BadRequest as error:
            await self._desk.refused(DOOR, client, key, error)
            raise

    async def _whole(
        self, http: BaseRequest, request: Request, headers: Mapping[str, str]
    ) -> StreamResponse:
        answer = b""
        async with self._desk.call(request) as news:
            async for notice in news:
                if isinstance(notice, Answer):
                    answer = notice.payload
        return self._completion(given(answer), {**headers, **named(http, given(answer).id)})

    async def _stream(
        self, http: BaseRequest, request: Request, usage: bool, headers: Mapping[str, str]
    ) -> StreamResponse:
        stream, end = events.Stream(http, headers, self._spawn, self._silent_s), b""
        try:
            async with self._desk.call(request) as news:
                async for notice in news:
                    match notice:
                        case Progress(id=id):
                            stream.headers |= named(http, id)
                            stream.note = _note(notice)
                        case Verbatim(data=data):
                            if passed := events.passed_on(data, usage=usage):
                                await stream.send(passed)
                        case Answer(payload=payload):
                            ours = msgspec.json.encode({"wattnap": given(payload).ours})
                            end = events.comment(ours.decode()) + events.DONE
        except ApplianceError as error:
            if stream.response is None:
                raise
            # The status is gone. Without [DONE], nobody takes it for the end of an answer.
            end = b"data: " + msgspec.json.encode(problem(error)[2]) + b"\n\n"
        finally:
            stream.close()
        return await stream.end(end)

    async def _once(self, request: Request, headers: Mapping[str, str]) -> StreamResponse:
        """Keep it, and wait: who sends it again gets the answer that there is."""
        followed = Followed(DOOR, request.client, request.id)
        with self._desk.notices.subscribed(followed.wants) as news:
            receipt = await self._desk.accept(request)
            answer = await self._followed(receipt, request.client, news)
        told = given(answer)
        headers = {**headers, "X-Request-Id": told.id, "Wattnap-Id": told.id}
        if told.error is not None:
            status = failed_status(told.error)
            return as_json(wrapped(status, told.error), headers, status)
        return self._completion(told, headers)

    async def find(
        self, http: BaseRequest, id: str, client: str, headers: Mapping[str, str]
    ) -> StreamResponse:
        """What became of one that was kept; after `Prefer: wait=N`, once it has, or N s later."""
        wait_s = min(LONGEST_WAIT_S, _seconds(preferences(http).get("wait", "0")))
        with self._desk.notices.subscribed(Followed(DOOR, client, id).wants) as news:
            receipt = await self._found(id, client)
            if receipt.answer is None and wait_s:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._followed(receipt, client, news)
                except TimeoutError:
                    pass
                receipt = await self._found(id, client)
        return self._told(receipt, headers, status=200)

    async def cancel(self, id: str, client: str, headers: Mapping[str, str]) -> StreamResponse:
        done = await self._desk.cancel(DOOR, client, id)
        return as_json({"id": id, "cancelled": done}, headers)

    async def _found(self, id: str, client: str) -> Receipt:
        receipt = await self._desk.find(DOOR, client, id) if ID.fullmatch(id) else None
        if receipt is None:
            raise Problem(404, "unknown_request", f"no request {id[:128]!r} of yours is kept here")
        return receipt

    async def _followed(self, receipt: Receipt, client: str, news: Subscription) -> bytes:
        """Its answer, once there is one."""
        if receipt.answer is None and receipt.state not in ENDED:
            async for notice in news:
                # Until the receipt was there, all of this client's were wanted.
                if (
                    isinstance(notice, Progress)
                    and notice.id == receipt.id
                    and notice.state in ENDED
                ):
                    break
        ended = await self._found(receipt.id, client) if receipt.answer is None else receipt
        if ended.answer is None:
            raise Gone(receipt.id)
        return ended.answer

    def _told(
        self, receipt: Receipt, headers: Mapping[str, str], status: int | None = None
    ) -> StreamResponse:
        place = {
            **headers,
            hdrs.LOCATION: f"/v1/wattnap/requests/{receipt.id}",
            "Wattnap-Id": receipt.id,
        }
        told = {
            "id": receipt.id,
            "state": receipt.state,
            "answer": Raw(receipt.answer) if receipt.answer is not None else None,
        }
        return as_json(told, place, status or (202 if receipt.answer is None else 200))

    def _completion(self, answer: Given, headers: Mapping[str, str]) -> StreamResponse:
        return as_json(completion(answer, int(self._clock.utc().timestamp())), headers)


def idempotency_key(http: BaseRequest) -> str | None:
    """The sender's name for its request. Some put it into quotes, as a draft of the IETF has it."""
    key = http.headers.get("Idempotency-Key", "").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    return key or None


def preferences(http: BaseRequest) -> dict[str, str]:
    """Of the header Prefer, RFC 7240."""
    found = {}
    for line in http.headers.getall("Prefer", []):
        for preference in line.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            found[name.strip().lower()] = value.strip().strip('"')
    return found


def named(http: BaseRequest, id: str) -> dict[str, str]:
    """Our id; and, as OpenAI's clients look for one there, X-Request-Id: theirs, or ours."""
    theirs = http.headers.get("X-Request-Id", "")
    return {"X-Request-Id": theirs if ID.fullmatch(theirs) else id, "Wattnap-Id": id}


def _note(progress: Progress) -> str:
    if progress.expected_s is None:
        return progress.state
    return f"{progress.state}, expected {progress.expected_s:.0f} s"


def _seconds(value: str) -> float:
    return float(value) if value.isascii() and value.isdigit() else 0.0
