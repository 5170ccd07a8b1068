"""Sleep and wake for vLLM's server (--middleware), without its development mode.

Answers a few paths below /wattnap/ itself and passes all others on. They are as open
as the socket that the server listens on: no key of vLLM's guards them. An answer is
JSON; what goes wrong is status 500 and {"error": text}.

    GET  /wattnap/state                           {"asleep", "free_bytes", "pool_bytes"}
    POST /wattnap/sleep?level=1                   state, "freed_bytes", "heap_bytes"
    POST /wattnap/prepare?image=PATH&budget_s=S   state, "more"
    POST /wattnap/sleep?level=2&image=PATH&budget_s=S   state, "freed_bytes", "heap_bytes", "image"
    POST /wattnap/wake?level=1|2                  state, "weights": "kept" | "image" | "files",
                                                  "took_s"

free_bytes   of the device's memory; null on a CPU
pool_bytes   of it that the engine's allocator has, and that a sleep must free
freed_bytes  that the device had more of after than before, when others may have taken or
             given some; not on a CPU
held_bytes   of the pool, that it has not let go of: if freed_bytes are less than half of it
heap_bytes   of the workers' own memory that is in use: what grows here is lost; or null
budget_s     how long it may make or compare the image; `prepare` does so while it is awake
more         whether there is more of that to do
took_s       by step: "memory" (for the weights), "weights", "cache", whatever there was of them
image        why there is no image of the weights, see worker.py; "" if there is one. Other
             words after the next sleep: that one got on with it

Python 3.10 to 3.13, vLLM 0.17 to 0.33, nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from .heap import Heap

PREFIX = "/wattnap/"

Scope = MutableMapping[str, Any]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


class Control:
    """The outermost layer of the server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._saved = False  # there is an image of the weights, of this life
        self._heap = Heap()

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        try:
            engine = scope["app"].state.engine_client
            status, answer = await self._answer(engine, scope)
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises, the daemon must know
            status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, engine: Any, scope: Scope) -> tuple[int, dict[str, Any]]:
        asked = dict(parse_qsl(scope["query_string"].decode()))
        match scope["method"], scope["path"].removeprefix(PREFIX):
            case "GET", "state":
                return 200, await state_of(engine)
            case "POST", "prepare":
                return 200, await prepare(engine, asked["image"], float(asked["budget_s"]))
            case "POST", "sleep":
                if asked["level"] == "2":
                    budget_s = float(asked["budget_s"])
                    return 200, await self._sleep_deeply(engine, asked["image"], budget_s)
                return 200, await self._sleep(engine, 1)
            case "POST", "wake":
                return 200, await self._wake(engine, int(asked["level"]))
        return 404, {"error": "no such path"}

    async def _sleep_deeply(self, engine: Any, image: str, budget_s: float) -> dict[str, Any]:
        why = await engine.collective_rpc("wattnap_save", args=(image, budget_s))
        self._saved = not any(why)
        return {**await self._sleep(engine, 2), "image": "; ".join(filter(None, why))}

    async def _sleep(self, engine: Any, level: int) -> dict[str, Any]:
        before = await state_of(engine)
        # Abort: nothing runs but, for an instant, what its client has just given up.
        await engine.sleep(level, "abort")
        state = await state_of(engine)  # before they tidy: what that frees is no sign of sleep
        self._heap.tidy()  # as the workers do in the next line, while nobody waits for an answer
        state["heap_bytes"] = total(await engine.collective_rpc("wattnap_tidy"))
        if state["free_bytes"] is not None:
            state["freed_bytes"] = state["free_bytes"] - before["free_bytes"]
            if state["freed_bytes"] * 2 < state["pool_bytes"]:
                state["held_bytes"] = sum(await engine.collective_rpc("wattnap_held"))
        return state

    async def _wake(self, engine: Any, level: int) -> dict[str, Any]:
        """Until all is back, vLLM's scheduler stays paused: nothing runs on half of it."""
        weights, took_s = "kept", dict[str, float]()
        await engine.collective_rpc("wattnap_rouse")
        if level == 2:
            with timed(took_s, "memory"):
                await engine.wake_up(["weights"])
            with timed(took_s, "weights"):
                weights = "image" if await self._from_image(engine) else "files"
                if weights == "files":
                    await engine.collective_rpc("reload_weights")
        with timed(took_s, "cache"):
            await engine.wake_up(["kv_cache"] if level == 2 else None)
        return {**await state_of(engine), "weights": weights, "took_s": took_s}

    async def _from_image(self, engine: Any) -> bool:
        return self._saved and not any(await engine.collective_rpc("wattnap_load"))


@contextlib.contextmanager
def timed(took_s: dict[str, float], step: str) -> Iterator[None]:
    began_s = time.perf_counter()
    yield
    took_s[step] = round(time.perf_counter() - began_s, 4)


async def prepare(engine: Any, image: str, budget_s: float) -> dict[str, Any]:
    more = await engine.collective_rpc("wattnap_prepare", args=(image, budget_s))
    return {**await state_of(engine), "more": any(more)}


def total(told: Sequence[int | None]) -> int | None:
    return None if None in told else sum(filter(None, told))


async def state_of(engine: Any) -> dict[str, Any]:
    told = await engine.collective_rpc("wattnap_memory")
    memory = {
        name: total([None if worker is None else worker[name] for worker in told])
        for name in ("free_bytes", "pool_bytes")
    }
    return {"asleep": await engine.is_sleeping(), **memory}
