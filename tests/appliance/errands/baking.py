"""A machine that has something to bake: fake engine, fake clock, real SQLite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from appliance.config import Config
from appliance.notices import Baking
from drivers.protocols import Rest
from tests.benches import Bench, bench

START_S, SLEEP_S, PARK_S, WAKE_S = 100.0, 20.0, 2.0, 1.0
PIECE_S = 0.5

# wake, sleep, wake, park (by way of sleep), wake; then it goes to rest.
WHOLE_S = START_S + SLEEP_S + WAKE_S + SLEEP_S + PARK_S + WAKE_S
DAY_S = 86400.0


def baking(
    folder: Path,
    recipe: str = "one",
    *,
    config: Config | None = None,
    lacks: Mapping[Rest, str] = MappingProxyType({}),
    to_prepare: int = 1,
    pieces: int = 0,
) -> AbstractAsyncContextManager[Bench]:
    """A machine that can do everything but what it `lacks`; its engine takes its time to start."""
    return bench(
        folder,
        config=config,
        start_s=START_S,
        lacks=lacks,
        recipe=recipe,
        to_prepare=to_prepare,
        pieces=pieces,
        piece_s=PIECE_S,
    )


def begin(b: Bench) -> None:
    """As the daemon does when it has started; from now on each move takes its time."""

    def slow(move: Callable[[], Awaitable[Any]], seconds: float) -> Callable[[], Awaitable[Any]]:
        async def take_time() -> Any:  # whatever it returns
            await b.clock.sleep(seconds)
            return await move()

        return take_time

    for name, seconds in (("sleep", SLEEP_S), ("park", PARK_S), ("wake", WAKE_S)):
        setattr(b.engine, name, slow(getattr(b.engine, name), seconds))
    b.appliance.bake.look(bake=True)


def state(b: Bench) -> str | None:
    told = b.intake.state()["bake"]
    return told and str(told["state"])


class Ends:
    """How bakes have ended, as those are told who listen."""

    def __init__(self) -> None:
        self.told: list[Baking] = []

    def wants(self, notice: object) -> bool:
        if isinstance(notice, Baking) and notice.step in {"baked", "failed", "stopped"}:
            self.told.append(notice)
        return False


async def outcomes(b: Bench) -> list[tuple[str, str]]:
    rows = await b.rows("SELECT recipe, outcome FROM baked ORDER BY seq")
    return [(str(recipe), str(outcome)) for recipe, outcome in rows]
