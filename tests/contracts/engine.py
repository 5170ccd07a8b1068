"""What every Engine must do. Collected once per driver, by subclassing.

The fake and vLLM's stand-in process run it always, vLLM itself with `-m engine`.
A behaviour that the supervisor relies on and that is not here is a behaviour
nobody has checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from drivers.errors import Died, DriverError, NotSupported, Refused
from drivers.protocols import Engine

CHAT = "/v1/chat/completions"


def chat_body(prompt: str = "one two three", **more: object) -> bytes:
    """An OpenAI chat request of at most 16 tokens, with `more` put over it."""
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"messages": messages, "max_tokens": 16, **more}).encode()


async def answer(engine: Engine, body: bytes | None = None) -> dict[str, Any]:
    """The whole answer to one request that does not stream."""
    async with engine.request(CHAT, body or chat_body(), stream=False) as reply:
        read = b"".join([chunk async for chunk in reply.chunks])
        assert reply.status == 200, read
        parsed: dict[str, Any] = json.loads(read)
        return parsed


def stream_body(prompt: str = "one two three", **more: object) -> bytes:
    return chat_body(prompt, stream=True, stream_options={"include_usage": True}, **more)


async def stream(engine: Engine, body: bytes) -> list[str]:
    """The data of all events of one streamed answer."""
    async with engine.request(CHAT, body, stream=True) as reply:
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [event async for chunk in reply.chunks for event in parse_events(chunk)]


def parse_events(chunk: bytes) -> list[str]:
    """The data of each event in a chunk; fails unless they are whole."""
    assert chunk.endswith(b"\n\n")
    events = chunk.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


class EngineContract:
    """Subclass, name it Test..., and provide the `engine` fixture.

    Each test finds the engine stopped or awake and may leave it either way, so that
    all of them can share one: those that need it awake come first. The fixture
    stops it in the end.
    """

    long_body = stream_body("endless")
    """A request whose answer is still streaming after a second."""

    async def running(self, engine: Engine) -> int:
        """How many requests the engine itself says it is serving."""
        raise NotImplementedError

    async def kill(self, engine: Engine) -> None:
        """End the engine as a crash would."""
        raise NotImplementedError

    async def children(self, engine: Engine) -> int:
        """How many processes of the engine are alive."""
        raise NotImplementedError

    async def idle(self, engine: Engine) -> None:
        """Return when the engine says that it serves nobody."""
        while await self.running(engine):  # noqa: ASYNC110 - it only answers when asked
            await asyncio.sleep(0.02)

    async def test_start_means_ready(self, engine: Engine) -> None:
        """The first request after start() is answered, without a retry."""
        facts = await engine.start()

        assert (await answer(engine))["choices"][0]["message"]["content"]
        assert facts.kind

    async def test_start_twice_is_start(self, engine: Engine) -> None:
        """A second start() keeps the process it finds."""
        first = await engine.start()
        second = await engine.start()

        assert first.pids == second.pids
        assert await answer(engine)

    async def test_its_recipe_is_known_beforehand(self, engine: Engine) -> None:
        """It is the same before, in and after a life: what has been started has this recipe."""
        before = await engine.recipe(), await engine.ingredients()
        await engine.start()
        inside = await engine.recipe(), await engine.ingredients()
        await engine.stop()

        assert inside == before
        assert (await engine.recipe(), await engine.ingredients()) == before

    async def test_answer_has_openai_shape(self, engine: Engine) -> None:
        """A chat body gets one choice, a finish reason and usage that adds up."""
        await engine.start()
        got = await answer(engine)

        assert got["object"] == "chat.completion"
        assert got["choices"][0]["finish_reason"] in {"stop", "length"}
        check_usage(got["usage"])

    async def test_same_request_same_answer(self, engine: Engine) -> None:
        """Greedy decoding is deterministic, which the canary check stands on."""
        await engine.start()
        body = chat_body(temperature=0)
        texts = [(await answer(engine, body))["choices"][0]["message"] for _ in range(2)]

        assert texts[0] == texts[1]

    async def test_stream_is_whole_events(self, engine: Engine) -> None:
        """Each chunk holds whole events; the last is [DONE], the one before has usage."""
        await engine.start()
        events = await stream(engine, stream_body())

        assert events[-1] == "[DONE]"
        check_usage(json.loads(events[-2])["usage"])
        assert all(json.loads(event)["choices"] for event in events[:-2])

    async def test_refusal_is_a_status(self, engine: Engine) -> None:
        """A request that the engine refuses is an answer, and no error of the driver."""
        await engine.start()
        async with engine.request(CHAT, b'{"messages": 5}', stream=False) as reply:
            said = b"".join([chunk async for chunk in reply.chunks])

        assert reply.status == 400
        assert json.loads(said)["error"]["message"]
        assert await answer(engine)

    async def test_leaving_early_cancels(self, engine: Engine) -> None:
        """Closing a stream ends it in the engine within a second, and the next is served."""
        await engine.start()
        async with engine.request(CHAT, self.long_body, stream=True) as reply:
            async for _ in reply.chunks:
                break
            assert await self.running(engine)
        async with asyncio.timeout(1):
            assert await answer(engine)
            await self.idle(engine)

    async def test_cancelling_a_reader_cancels(self, engine: Engine) -> None:
        """Cancelling the task that reads a stream is leaving it."""
        await engine.start()
        began = asyncio.Event()

        async def read() -> None:
            async with engine.request(CHAT, self.long_body, stream=True) as reply:
                async for _ in reply.chunks:
                    began.set()

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            await began.wait()
            reader.cancel()
        async with asyncio.timeout(1):
            await self.idle(engine)

    async def test_serves_after_every_rest(self, engine: Engine) -> None:
        """Sleep and wake, and sleep, park and wake; it says what it said before.

        The prompt's beginning was kept for prompts like it, and is not gone by afterwards.
        """
        await engine.start()
        body = chat_body("one two three " * 8, temperature=0)
        said = (await answer(engine, body))["choices"]
        for _ in range(2):
            if "sleep" not in engine.lacks:
                await engine.sleep()
                await engine.wake()

                assert (await answer(engine, body))["choices"] == said
            if "park" not in engine.lacks:
                await engine.sleep()
                await engine.park()
                await engine.wake()

                assert (await answer(engine, body))["choices"] == said

    async def test_serves_while_its_sleep_is_prepared(self, engine: Engine) -> None:
        """Between two pieces, and after the last; then it sleeps, and wakes, as ever."""
        await engine.start()
        body = chat_body("four five six", temperature=0)
        said = (await answer(engine, body))["choices"]
        async with asyncio.timeout(60):
            while await engine.prepare():
                assert (await answer(engine, body))["choices"] == said
        assert (await answer(engine, body))["choices"] == said
        if "sleep" not in engine.lacks:
            await engine.sleep()
            assert not await engine.prepare()

            await engine.wake()
            assert (await answer(engine, body))["choices"] == said

    async def test_does_not_sleep_while_it_serves(self, engine: Engine) -> None:
        """It refuses, and the answer goes on; afterwards it sleeps, and wakes to serve."""
        await engine.start()
        if "sleep" in engine.lacks:
            return
        async with engine.request(CHAT, self.long_body, stream=True) as reply:
            async for _ in reply.chunks:
                break
            with pytest.raises(Refused):
                await engine.sleep()

            assert await self.running(engine)
        await engine.sleep()
        with pytest.raises(DriverError):
            await answer(engine)
        await engine.wake()

        assert await answer(engine)

    async def test_what_it_lacks_changes_nothing(self, engine: Engine) -> None:
        """NotSupported is raised before the engine is touched, with the reason."""
        await engine.start()
        for rest, goes in (("sleep", engine.sleep), ("park", engine.park)):
            if rest in engine.lacks:
                with pytest.raises(NotSupported):
                    await goes()

        assert await answer(engine)

    async def test_a_resting_engine_can_be_stopped(self, engine: Engine) -> None:
        """From sleep, and from where it is parked; nothing is left, and start() works."""
        for rests in ((engine.sleep,), (engine.sleep, engine.park)):
            if "sleep" in engine.lacks or (len(rests) == 2 and "park" in engine.lacks):
                continue
            await engine.start()
            for rest in rests:
                await rest()
            await engine.stop()

            assert await self.children(engine) == 0
        await engine.start()

        assert await answer(engine)

    async def test_starts_again_with_and_without_a_host(self, engine: Engine) -> None:
        """After stop() alone, and after dismiss() too, start() works."""
        await engine.start()
        await engine.stop()
        await engine.start()

        assert await answer(engine)
        await engine.stop()
        await engine.dismiss()

        assert await self.children(engine) == 0
        await engine.start()

        assert await answer(engine)

    async def test_waking_the_awake_is_nothing(self, engine: Engine) -> None:
        """wake() on an awake engine returns, and it still serves."""
        await engine.start()
        await engine.wake()

        assert await answer(engine)

    async def test_death_is_noticed(self, engine: Engine) -> None:
        """After a kill died() raises, what ran too, nothing is left, and start() works."""
        await engine.start()
        async with engine.request(CHAT, self.long_body, stream=True) as reply:
            async for _ in reply.chunks:
                break
            await self.kill(engine)
            async with asyncio.timeout(10):
                with pytest.raises(DriverError):
                    async for _ in reply.chunks:
                        pass
        async with asyncio.timeout(10):
            with pytest.raises(Died):
                await engine.died()

        assert await self.children(engine) == 0

        with pytest.raises(Died):
            await answer(engine)
        await engine.start()

        assert await answer(engine)

    async def test_stop_is_no_death(self, engine: Engine) -> None:
        """died() stays silent through a stop that was asked for."""
        await engine.start()
        watch = asyncio.ensure_future(engine.died())
        await engine.stop()
        done, _ = await asyncio.wait({watch}, timeout=0.05)
        watch.cancel()

        assert not done

    async def test_stop_when_stopped(self, engine: Engine) -> None:
        """stop() is safe at any time, also twice, and leaves no process."""
        await engine.stop()
        await engine.stop()

        assert await self.children(engine) == 0

    async def test_wake_without_a_process(self, engine: Engine) -> None:
        """Waking what is stopped fails loudly; it does not start it."""
        await engine.stop()
        with pytest.raises(Died):
            await engine.wake()

        assert await self.children(engine) == 0

    async def test_request_without_a_process(self, engine: Engine) -> None:
        """A request to a stopped engine raises Died at once."""
        await engine.stop()
        with pytest.raises(Died):
            await answer(engine)

    async def test_cancelled_start_leaves_nothing(self, engine: Engine) -> None:
        """Cancelling start() stops what was started, within five seconds."""
        await engine.stop()
        async with asyncio.timeout(5):
            starting = asyncio.ensure_future(engine.start())
            await self.begun(engine)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting

        assert await self.children(engine) == 0

    async def begun(self, engine: Engine) -> None:
        """Return when a start() that is under way has something to be cancelled."""
        await asyncio.sleep(0)


def check_usage(usage: Mapping[str, int]) -> None:
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
