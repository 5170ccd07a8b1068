from __future__ import annotations

import asyncio

import pytest

from drivers.errors import Died, Unresponsive
from drivers.fake import KEPT, FakeEngine, FakeMeter
from drivers.protocols import Engine, Meter
from tests.contracts.engine import CHAT, EngineContract, answer, chat_body
from tests.contracts.meter import MeterContract


class TestFakeEngine(EngineContract):
    """The fake keeps the same promises as the real ones."""

    @pytest.fixture
    def engine(self) -> Engine:
        return FakeEngine(start_s=0.001)

    async def running(self, engine: Engine) -> int:
        assert isinstance(engine, FakeEngine)
        return engine.running

    async def kill(self, engine: Engine) -> None:
        assert isinstance(engine, FakeEngine)
        engine.die()

    async def children(self, engine: Engine) -> int:
        try:
            await answer(engine)
        except Died:
            return 0
        return 1


class TestFakeMeter(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return FakeMeter()


async def test_answers_with_the_words_of_the_prompt() -> None:
    """The same prompt always gets the same words, cut at max_tokens."""
    engine = FakeEngine()
    await engine.start()
    got = await answer(engine, chat_body("a b c d", max_tokens=2))

    assert got["choices"][0]["message"]["content"] == "a b"
    assert got["choices"][0]["finish_reason"] == "length"
    assert got["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


async def test_what_is_nested_too_deep_is_refused() -> None:
    """It goes on: a server would, too."""
    engine = FakeEngine()
    await engine.start()
    deep = b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}"
    async with engine.request(CHAT, deep, stream=True) as reply:
        assert reply.status == 400
    assert await answer(engine)


async def test_poison_kills_it() -> None:
    """The poison prompt raises Died, and the engine is gone afterwards."""
    engine = FakeEngine()
    await engine.start()
    with pytest.raises(Died):
        await answer(engine, chat_body(FakeEngine.POISON))
    with pytest.raises(Died):
        await engine.died()


async def test_asleep_it_does_not_answer() -> None:
    """A request to a sleeping engine raises Unresponsive, as a stalled one would."""
    engine = FakeEngine()
    await engine.start()
    await engine.sleep()
    with pytest.raises(Unresponsive):
        await answer(engine)


async def test_fails_once_when_told() -> None:
    """fail_next is raised by the next call only."""
    engine = FakeEngine()
    engine.fail_next = Died("fake", 1)
    with pytest.raises(Died):
        await engine.start()
    await engine.start()

    assert await answer(engine)


async def test_endless_answer_that_does_not_stream() -> None:
    """The endless prompt keeps a plain request waiting until it is cancelled."""
    engine = FakeEngine()
    await engine.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await answer(engine, chat_body(FakeEngine.ENDLESS))

    assert engine.running == 0


async def test_start_and_tokens_take_their_time() -> None:
    """Times pass in the injected sleep: start_s once, token_s for each word."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    engine = FakeEngine(start_s=20, token_s=0.5, sleep=sleep)
    await engine.start()
    body = chat_body("a b", stream=True)
    async with engine.request(CHAT, body, stream=True) as reply:
        chunks = [chunk async for chunk in reply.chunks]

    assert len(chunks) == 3
    assert slept == [20, 0.5, 0.5, 0.5]


def test_meter_counts_what_is_drawn() -> None:
    """Joules are power times time, piece by piece; restart begins an epoch at 0."""
    at_s = 100.0
    meter = FakeMeter(5.0, now=lambda: at_s)
    at_s = 102.0
    meter.draw(20.0)
    at_s = 103.0

    assert meter.sample().energy_j == 30.0
    assert meter.sample().epoch == 0

    meter.restart()

    assert (meter.sample().energy_j, meter.sample().epoch) == (0.0, 1)


async def test_what_it_remembers_has_an_end() -> None:
    """A daemon on trial does not grow."""
    engine = FakeEngine()
    await engine.start()
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    for _ in range(KEPT + 10):
        async with engine.request("/v1/chat/completions", body, stream=False):
            pass

    assert len(engine.served) == KEPT
