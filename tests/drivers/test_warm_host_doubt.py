"""VllmEngine where servers fail: whether the warm host is to blame, only a plain start tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers import warm_host
from drivers.errors import Died, NotSupported
from drivers.process import Child
from tests.contracts.engine import answer
from tests.drivers.conftest import children
from tests.drivers.parts import host_of, make_engine, started


async def test_forks_that_fail_alone_are_given_up(place: Path) -> None:
    """Where only forked servers fail, no more are forked; one such failure is no proof."""
    engine = make_engine(place, warm_host=True)
    async with started(engine):
        for _ in range(warm_host.STRIKES):
            await engine.stop()
            engine._orders = replace(engine._orders, args=("--die-at-90",))
            with pytest.raises(Died):
                await engine.start()
            engine._orders = replace(engine._orders, args=())
            await engine.start()  # plainly

            assert "a plain one did" in engine.lacks["host"]
        await engine.stop()
        await engine.start()

        assert "a plain one did" in engine.lacks["host"]
        assert len(children()) == 2  # guard and server


@pytest.mark.parametrize(
    "words", ["RuntimeError: No CUDA GPUs are available", "ImportError: cannot import name 'x'"]
)
async def test_what_a_forked_server_alone_finds_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Is not believed of it: a plain one is started at once, and serves."""
    fork = warm_host.WarmHost._fork

    async def spoilt(
        self: warm_host.WarmHost, child: Child, command: Sequence[str], /, **how: Any
    ) -> None:
        await fork(self, child, [*command, "--last-words", words], **how)

    monkeypatch.setattr(warm_host.WarmHost, "_fork", spoilt)
    async with started(make_engine(place, warm_host=True)) as engine:
        assert await answer(engine)
        assert "a plain one did" in engine.lacks["host"]
        assert words in engine.lacks["host"]
        await engine.stop()
        await engine.start()

        assert await answer(engine)
        assert len(children()) == 2  # guard and server: twice is enough


async def test_what_a_plain_server_finds_wrong_too(place: Path) -> None:
    """Is told as its own, and nothing is held against the host."""
    engine = make_engine(place, warm_host=True)
    async with started(engine):
        host = host_of(engine)
        await engine.stop()
        engine._orders = replace(engine._orders, args=("--last-words", "ImportError: no"))
        for _ in range(warm_host.STRIKES + 1):
            with pytest.raises(NotSupported):
                await engine.start()
        engine._orders = replace(engine._orders, args=())
        await engine.start()

        assert "host" not in engine.lacks
        assert host_of(engine) == host
