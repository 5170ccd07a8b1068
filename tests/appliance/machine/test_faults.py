"""Drivers that raise what no driver should: fake engine, fake clock, real SQLite."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.protocols import Rest
from policies.ladder import Depth
from tests.benches import AWAKE, Bench, bench


def fails_once(b: Bench, name: str) -> None:
    """The engine's next such call raises, and does nothing."""
    call: Callable[[], Awaitable[Any]] = getattr(b.engine, name)

    async def fail() -> Any:  # whatever it returns the next time
        setattr(b.engine, name, call)
        raise OSError(errno.EMFILE, "Too many open files")

    setattr(b.engine, name, fail)


@pytest.mark.parametrize("name", ["start", "sleep", "park", "wake", "stop", "dismiss"])
async def test_it_costs_a_life_of_the_engine_and_nothing_else(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is accepted is answered, and the log has the whole of it."""
    lacks: dict[Rest, str] = {}
    async with bench(tmp_path, lacks=lacks) as b:
        if name != "start":
            await b.send({"prompt": "before", "wattnap": {"id": "before"}})
            await b.clock.advance(10)
        fails_once(b, name)
        b.supervisor.rest(Depth.OFF if name in {"stop", "dismiss"} else Depth.PARKED)
        await b.clock.advance(30)
        await b.send({"prompt": "after", "wattnap": {"id": "after"}})
        await b.clock.advance(300)

        assert set((await b.states()).values()) == {"done"}
        assert "an error that its driver did not foresee" in caplog.text
        assert "Too many open files" in caplog.text


async def test_a_watch_that_fails(tmp_path: Path) -> None:
    """Nobody would hear of its end: it is started anew, for the next request."""
    async with bench(tmp_path) as b:
        fails_once(b, "died")
        await b.send({"prompt": "one", "wattnap": {"id": "one"}})
        await b.clock.advance(10)
        await b.send({"prompt": "two", "wattnap": {"id": "two"}})
        await b.clock.advance(30)

        assert set((await b.states()).values()) == {"done"}
        assert b.where == AWAKE


@pytest.mark.parametrize("name", ["recipe", "ingredients"])
async def test_what_it_is_made_of_cannot_be_known(tmp_path: Path, name: str) -> None:
    """It is not baked, and no prices are known; it serves."""
    async with bench(tmp_path, recipe="one", to_prepare=1) as b:
        fails_once(b, name)
        b.appliance.bake.look(bake=True)
        await b.clock.advance(10)
        await b.send({"prompt": "one", "wattnap": {"id": "one"}})
        await b.clock.advance(300)

        assert await b.states() == {"one": "done"}
