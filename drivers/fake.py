"""Drivers without devices: an engine and a meter in memory, both scriptable.

Shipped, not test-only: `wattnap run --fake` uses them, so that everything above
can be tried on a machine without a model. They are held to the same contract
suites as the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from drivers.errors import Died, DriverError, NotSupported, Refused, Unresponsive
from drivers.instants import boottime_s
from drivers.protocols import Cadence, EngineFacts, Reply, Rest, Sample

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}

Body = Mapping[str, Any]  # what a sender wrote: any JSON

KEPT = 1000
"""Requests that are remembered. Who tries the daemon with this engine may do so for weeks."""


class FakeEngine:
    """An engine in memory, which answers a prompt with its own words.

    One word is one token. `fail_next` makes the next start, sleep, wake or
    request raise it, once. `start_s` and `token_s` pass in `sleep`, so that a
    fake clock can stand behind them. `recipe`: what it is made for; "": nothing that
    would have to be prepared. It lacks something until it has slept `to_prepare` times.
    Its first sleep in each life is prepared in so many `pieces`, of `piece_s` each.
    """

    POISON = "poison"
    """A prompt that kills the engine, as one that runs out of memory would."""
    ENDLESS = "endless"
    """A prompt whose answer never ends: one word, then silence."""

    def __init__(
        self,
        *,
        name: str = "fake",
        lacks: Mapping[Rest, str] | None = None,
        start_s: float = 0.0,
        token_s: float = 0.0,
        recipe: str = "",
        to_prepare: int = 1,
        pieces: int = 0,
        piece_s: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.lacks: Mapping[Rest, str] = dict(lacks or {})
        self.as_shipped: bool | None = None
        self.start_s = start_s
        self.token_s = token_s
        self.fail_next: DriverError | None = None
        self.running = 0
        self.served: list[bytes] = []
        """The bodies of the latest requests it took, in order."""
        self.calls: list[str] = []
        """What it did: "start", "prepare", "sleep", "park", "wake", "stop", "dismiss"."""
        self._recipe = recipe
        self._to_prepare = to_prepare
        self._pieces, self._piece_s = pieces, piece_s
        self._pieces_left = 0
        self._sleep = sleep
        self._state = "stopped"
        self._status = 0
        self._dead = asyncio.Event()
        self._ended = asyncio.Event()  # of the present life, by death or by stop()

    async def recipe(self) -> str:
        return self._recipe

    async def ingredients(self) -> Mapping[str, str]:
        return {"engine": self.name, "recipe": self._recipe}

    async def start(self) -> EngineFacts:
        self.calls.append("start")
        self._maybe_fail()
        if self._state == "stopped":
            self._dead.clear()
            self._ended = asyncio.Event()
            await self._sleep(self.start_s)
            self._state = "awake"
            self._pieces_left = self._pieces
        return EngineFacts(kind="fake", identity="fake", version="0")

    async def prepare(self) -> bool:
        if "sleep" in self.lacks:
            return False
        self._need_process()
        self._need_idle()
        if not self._pieces_left:
            return False
        self.calls.append("prepare")
        self._maybe_fail()
        await self._sleep(self._piece_s)
        self._pieces_left -= 1
        return self._pieces_left > 0

    async def sleep(self) -> str:
        if "sleep" not in self.lacks:
            self._need_idle()
        self._rest("sleep", to="asleep")
        self._pieces_left = 0
        self._to_prepare = max(0, self._to_prepare - 1)
        return f"{self._to_prepare} to prepare" if self._to_prepare else ""

    async def park(self) -> None:
        if self._state == "awake":
            raise NotSupported(self.name, "only a sleeping engine can be parked")
        self._rest("park", to="parked")

    def _rest(self, how: Rest, *, to: str) -> None:
        if how in self.lacks:
            raise NotSupported(self.name, self.lacks[how])
        self.calls.append(how)
        self._maybe_fail()
        self._need_process()
        self._state = to

    async def wake(self) -> None:
        self.calls.append("wake")
        self._maybe_fail()
        self._need_process()
        self._state = "awake"

    async def stop(self) -> None:
        self.calls.append("stop")
        self._state = "stopped"
        self._status = 0
        self._dead.clear()
        self._ended.set()

    async def dismiss(self) -> None:
        self.calls.append("dismiss")

    async def died(self) -> None:
        await self._dead.wait()
        raise Died(self.name, self._status)

    def die(self, status: int = -9) -> None:
        """End it as a crash would: what runs raises Died, and so does died()."""
        self._state = "stopped"
        self._status = status
        self._dead.set()
        self._ended.set()

    def request(
        self, path: str, body: bytes, *, stream: bool
    ) -> AbstractAsyncContextManager[Reply]:
        return self._request(path, body, stream=stream)

    @contextlib.asynccontextmanager
    async def _request(self, path: str, body: bytes, *, stream: bool) -> AsyncIterator[Reply]:
        self._maybe_fail()
        self._need_process()
        if self._state != "awake":
            # vLLM takes such a request and never answers it (0.32, tried by hand).
            raise Unresponsive(self.name, "asked to serve while asleep")
        self.served.append(body)
        del self.served[:-KEPT]
        self.running += 1
        try:
            reply = self._answer(path, body, stream=stream)
            async with contextlib.aclosing(reply.chunks):  # type: ignore[type-var]  # a generator
                yield reply
        finally:
            self.running -= 1

    def _answer(self, path: str, body: bytes, *, stream: bool) -> Reply:
        if path not in {"/v1/chat/completions", "/v1/completions"}:
            return Reply(404, JSON, _once(b'{"detail":"Not Found"}'))
        try:
            asked = json.loads(body)
            prompt = prompt_of(asked)
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
            RecursionError,  # of JSON that is nested deeper than this interpreter goes
        ) as error:
            refusal = {"message": str(error), "type": "BadRequestError", "param": None, "code": 400}
            return Reply(400, JSON, _once(json.dumps({"error": refusal}).encode()))
        if prompt == self.POISON:
            self.die()
            raise Died(self.name, -9, "killed while serving")
        answer = Answer(asked, prompt, chat=path == "/v1/chat/completions")
        if stream and asked.get("stream"):
            return Reply(200, SSE, self._pace(answer.events(), prompt))
        return Reply(200, JSON, self._pace(iter([answer.whole()]), prompt, len(answer.words)))

    async def _pace(
        self, chunks: Iterator[bytes], prompt: str, tokens_per_chunk: int = 1
    ) -> AsyncIterator[bytes]:
        """Let the chunks out at the engine's speed, for as long as it lives."""
        for chunk in chunks:
            await self._sleep(tokens_per_chunk * self.token_s)
            self._need_process()
            if prompt != self.ENDLESS or chunk.startswith(b"data:"):
                yield chunk
            if prompt == self.ENDLESS:
                await self._ended.wait()
                self._need_process()

    def _need_process(self) -> None:
        if self._state == "stopped":
            raise Died(self.name, self._status, "no process")

    def _need_idle(self) -> None:
        if self.running:
            raise Refused(self.name, "asked to sleep while it serves")

    def _maybe_fail(self) -> None:
        if error := self.fail_next:
            self.fail_next = None
            raise error


class Answer:
    """What the fake says to one request, in OpenAI's shapes as vLLM 0.32 sends them."""

    def __init__(self, asked: Body, prompt: str, *, chat: bool) -> None:
        words = prompt.split() or ["nothing"]
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or len(words)
        self.words = words[:limit]
        self.finish = "length" if len(words) > limit else "stop"
        self.chat = chat
        self.usage = {
            "prompt_tokens": len(words),
            "completion_tokens": len(self.words),
            "total_tokens": len(words) + len(self.words),
        }
        self.model = asked.get("model", "fake")
        options = asked.get("stream_options") or {}
        self.with_usage = bool(options.get("include_usage"))

    def whole(self) -> bytes:
        text = " ".join(self.words)
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": self.finish}
        kind = "chat.completion" if self.chat else "text_completion"
        return json.dumps({**self._head(kind), "choices": [choice], "usage": self.usage}).encode()

    def events(self) -> Iterator[bytes]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        for i, word in enumerate(self.words):
            text = f" {word}" if i else word
            said = {"delta": {"content": text}} if self.chat else {"text": text}
            last = i == len(self.words) - 1
            choice = {"index": 0, **said, "finish_reason": self.finish if last else None}
            yield _event({**self._head(kind), "choices": [choice]})
        if self.with_usage:
            yield _event({**self._head(kind), "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": "fake-0", "object": kind, "created": 0, "model": self.model}


class FakeMeter:
    """A meter whose power is set by hand; it counts from when it was made."""

    rails: tuple[str, ...] = ()
    wakes_device = False
    blocks = False
    cadence = Cadence()
    resolution_s = 0.0
    window_s = 0.0
    most_w = 1000.0

    def __init__(
        self,
        power_w: float = 10.0,
        *,
        name: str = "fake",
        device: str = "box",
        idle_w: float | None = None,
        source: str = "estimate",
        now: Callable[[], float] = boottime_s,
    ) -> None:
        self.name = name
        self.device = device
        self.source = source
        self.idle_w = idle_w
        self.fail_next: DriverError | None = None
        self.opened = False
        self._now = now
        self._power_w = power_w
        self._energy_j = 0.0
        self._epoch = 0
        self._at_s = now()

    def open(self) -> None:
        self._maybe_fail()
        self.opened = True

    def sample(self) -> Sample:
        self._maybe_fail()
        self._settle()
        return Sample(self._at_s, self._energy_j, self._epoch)

    def close(self) -> None:
        self.opened = False

    def draw(self, power_w: float) -> None:
        """From now on, draw `power_w`."""
        self._settle()
        self._power_w = power_w

    def restart(self) -> None:
        """Count anew from 0 in a new epoch, as after a driver's reload."""
        self._settle()
        self._energy_j = 0.0
        self._epoch += 1

    def _settle(self) -> None:
        at_s = self._now()
        self._energy_j += self._power_w * (at_s - self._at_s)
        self._at_s = at_s

    def _maybe_fail(self) -> None:
        if error := self.fail_next:
            self.fail_next = None
            raise error


def prompt_of(asked: Body) -> str:
    """The text of the last user message, or of a plain prompt.

    Raises KeyError, TypeError, IndexError or AttributeError on anything else.
    """
    if "messages" not in asked:
        return str(asked["prompt"])
    content = [m["content"] for m in asked["messages"] if m["role"] == "user"][-1]
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
