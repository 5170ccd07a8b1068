"""The paths of the HTTP door, and who may ask for them. No other path reaches anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from msgspec import Struct

from appliance.clock import Clock
from appliance.desk import Desk
from appliance.doors import http_metrics as metrics
from appliance.doors.http_asking import Asking
from appliance.doors.http_body import read_as
from appliance.doors.http_gate import Gate
from appliance.doors.http_problem import Problem, as_json, told
from appliance.doors.socket_lines import Depth, KeepWarm
from appliance.errors import ApplianceError
from appliance.request import CHAT_PATH, TEXT_PATH

MODELS, REQUESTS = "/v1/models", "/v1/wattnap/requests"


class Wake(Struct, forbid_unknown_fields=True):
    keep_warm_s: KeepWarm = 0.0


class Rest(Struct, forbid_unknown_fields=True):
    depth: Depth | None = None


class Visit(NamedTuple):
    """One request, of somebody who may ask.

    path     without a slash at its end
    name     what follows the path's last slash, where that is the name of something
    headers  for the response
    """

    http: BaseRequest
    path: str
    name: str
    client: str
    headers: dict[str, str]


Work = Callable[[Visit], Awaitable[StreamResponse]]


class Paths:
    """`serve` one request."""

    def __init__(
        self, gate: Gate, asking: Asking, desk: Desk, clock: Clock, *, stalled_s: float
    ) -> None:
        self._gate, self._asking, self._desk = gate, asking, desk
        self._stalled_s = stalled_s
        self._since_s = int(clock.utc().timestamp())
        self._works: dict[str, dict[str, Work]] = {
            CHAT_PATH: {"POST": self._ask},
            TEXT_PATH: {"POST": self._ask},
            MODELS: {"GET": self._models},
            f"{MODELS}/*": {"GET": self._model},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/v1/wattnap/state": {"GET": self._state},
            "/v1/wattnap/wake": {"POST": self._wake},
            "/v1/wattnap/rest": {"POST": self._rest},
            f"{REQUESTS}/*": {"GET": self._find, "DELETE": self._cancel},
        }

    async def serve(self, http: BaseRequest) -> StreamResponse:
        """The response; refusals are responses, too. Raises ConnectionError."""
        headers = self._gate.headers(http)
        try:
            self._gate.check_page(http)
            path, name = http.path.rstrip("/"), ""
            if path not in self._works:
                parent, _, name = path.rpartition("/")
                path = f"{parent}/*"
            works = self._works.get(path)
            if works is None:
                raise Problem(404, "unknown_path", f"there is no {http.path[:200]!r} here")
            if http.method == hdrs.METH_OPTIONS:
                return web.Response(status=204, headers=self._gate.preflight(http))
            work = works.get("GET" if http.method == hdrs.METH_HEAD else http.method)
            if work is None:
                allowed = ", ".join(works)
                raise Problem(
                    405,
                    "method_not_allowed",
                    f"{http.path} takes {allowed}",
                    {hdrs.ALLOW: allowed},
                )
            # Whether it lives, a load balancer may know without a key.
            client = "" if path == "/health" else self._gate.admit(http)
            return await work(Visit(http, path, name, client, headers))
        except (ApplianceError, Problem) as error:
            return told(error, headers)

    async def _ask(self, visit: Visit) -> StreamResponse:
        return await self._asking.ask(visit.http, visit.path, visit.client, visit.headers)

    async def _find(self, visit: Visit) -> StreamResponse:
        return await self._asking.find(visit.http, visit.name, visit.client, visit.headers)

    async def _cancel(self, visit: Visit) -> StreamResponse:
        return await self._asking.cancel(visit.name, visit.client, visit.headers)

    async def _models(self, visit: Visit) -> StreamResponse:
        return as_json({"object": "list", "data": [self._served()]}, visit.headers)

    async def _model(self, visit: Visit) -> StreamResponse:
        model = self._served()
        if visit.name != model["id"]:
            raise Problem(404, "unknown_model", f"model {visit.name[:64]!r} is not known here")
        return as_json(model, visit.headers)

    def _served(self) -> dict[str, object]:
        alias = self._desk.state()["engine"]
        return {"id": alias, "object": "model", "created": self._since_s, "owned_by": "wattnap"}

    async def _health(self, visit: Visit) -> StreamResponse:
        state = self._desk.state()
        body = {"status": "ok", "state": state["state"], "depth": state["depth"]}
        return as_json(body, visit.headers)

    async def _metrics(self, visit: Visit) -> StreamResponse:
        text = metrics.exposition(self._desk.state(), await self._desk.totals())
        headers = {**visit.headers, hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE}
        return web.Response(body=text.encode(), headers=headers)

    async def _state(self, visit: Visit) -> StreamResponse:
        body = {**self._desk.state(), "energy": await self._desk.energy()}
        return as_json(body, visit.headers)

    async def _wake(self, visit: Visit) -> StreamResponse:
        wish = await read_as(Wake, visit.http, stalled_s=self._stalled_s)
        self._desk.wake(wish.keep_warm_s)
        return as_json({"status": "ok"}, visit.headers, HTTPStatus.ACCEPTED)

    async def _rest(self, visit: Visit) -> StreamResponse:
        wish = await read_as(Rest, visit.http, stalled_s=self._stalled_s)
        self._desk.rest(wish.depth)
        return as_json({"status": "ok"}, visit.headers, HTTPStatus.ACCEPTED)
