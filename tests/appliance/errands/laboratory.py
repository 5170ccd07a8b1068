"""A machine to be calibrated: fake engine, fake clock, a meter that shows what each rung draws."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from appliance.desk import Calibrate
from appliance.notices import Calibrating
from appliance.power.prices import Price
from policies.ladder import Depth
from tests.benches import Bench, bench
from tests.fake_clock import FakeClock

WATTS = {
    Depth.AWAKE: 80.0,
    Depth.LIGHT: 79.5,
    Depth.PARKED: 70.0,
    Depth.STOPPED: 60.0,
    Depth.OFF: 50.0,
}
DOWN_S = {Depth.LIGHT: 0.5, Depth.PARKED: 2.0, Depth.STOPPED: 1.0, Depth.OFF: 3.0}
UP_S = {Depth.LIGHT: 1.0, Depth.PARKED: 2.0, Depth.STOPPED: 6.0, Depth.OFF: 30.0}
DOWN_W, UP_W, TAIL_W, TAIL_S = 150.0, 250.0, 20.0, 8.0
BOOST_W = 41.0
QUICK = Calibrate(cycles=2, over_s=12.0)
WHOLE_S = 300.0
"""More than such a one takes."""
HOUR_S = 3600.0


class Machine:
    """What the engine's moves take, and what the meter shows of them."""

    def __init__(self, b: Bench) -> None:
        self._b, self._at = b, Depth.OFF
        self._moves = 0
        self._closed = False
        self.boosted = False
        b.meter.draw(WATTS[Depth.OFF])
        for name, to in (
            ("sleep", Depth.LIGHT),
            ("park", Depth.PARKED),
            ("stop", Depth.STOPPED),
            ("dismiss", Depth.OFF),
        ):
            setattr(b.engine, name, self._down(getattr(b.engine, name), to))
        for name in ("start", "wake"):
            setattr(b.engine, name, self._up(getattr(b.engine, name)))

    def _down(self, move: Callable[[], Awaitable[Any]], to: Depth) -> Callable[[], Awaitable[Any]]:
        async def go() -> Any:
            if self._at < to and not self._closed:
                # The way to OFF is a stop and a dismissal, in one edge.
                took_s = DOWN_S[to]
                self._moves += 1
                self._b.meter.draw(DOWN_W)
                await self._b.clock.sleep(took_s)
            told = await move()
            self._at = max(self._at, to)
            self._b.meter.draw(WATTS[self._at])
            return told

        return go

    def _up(self, move: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        async def go() -> Any:
            self._moves += 1
            moves = self._moves
            self._b.meter.draw(UP_W)
            await self._b.clock.sleep(UP_S.get(self._at, 0.0))
            told = await move()
            if self._at >= Depth.STOPPED:
                self.boosted = bool(self._b.engine.as_shipped)
            self._at = Depth.AWAKE
            self._b.meter.draw(self._awake_w + TAIL_W)
            self._tail = asyncio.ensure_future(self._end_tail(moves))
            return told

        return go

    async def _end_tail(self, moves: int) -> None:
        await self._b.clock.sleep(TAIL_S)
        if self._moves == moves:
            self._b.meter.draw(self._awake_w)

    @property
    def _awake_w(self) -> float:
        return WATTS[Depth.AWAKE] + (BOOST_W if self.boosted else 0.0)

    def close(self) -> None:
        """Time stands still from now on."""
        self._closed = True
        if hasattr(self, "_tail"):
            self._tail.cancel()


class Laboratory(Bench):
    """A bench whose machine takes its time, and shows what it draws."""

    machine: Machine


@asynccontextmanager
async def ladder(
    folder: Path, recipe: str = "one", *, clock: FakeClock | None = None, **more: Any
) -> AsyncIterator[Laboratory]:
    """A machine that can do everything."""
    more = {"source": "counter", **more}
    async with bench(folder, lacks={}, recipe=recipe, clock=clock, **more) as b:
        made = Laboratory(**{each.name: getattr(b, each.name) for each in fields(b)})
        made.machine = Machine(b)
        try:
            yield made
        finally:
            made.machine.close()


class Follower:
    """Somebody at a terminal: from `begin` until `leave`."""

    def __init__(self, b: Bench, wish: Calibrate = QUICK) -> None:
        self._b, self._wish = b, wish
        self.told: list[Calibrating] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._follow())
        await self._b.quiet()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await self._b.quiet()

    @property
    def end(self) -> str:
        last = self.told[-1].step if self.told else ""
        return last if last in {"calibrated", "failed", "stopped"} else ""

    async def _follow(self) -> None:
        def wants(notice: object) -> bool:
            return isinstance(notice, Calibrating)

        intake = self._b.intake
        with intake.notices.subscribed(wants) as news, intake.calibrate(self._wish):
            async for notice in news:
                assert isinstance(notice, Calibrating)
                self.told.append(notice)
                if self.end:
                    return


async def calibrated(b: Bench, wish: Calibrate = QUICK) -> Follower:
    """Have it done, to its end."""
    async with Follower(b, wish) as follower:
        await b.clock.advance(WHOLE_S)
        assert follower.end == "calibrated"
    await b.clock.advance(10)
    return follower


def price(b: Bench, depth: Depth) -> Price:
    return b.supervisor.moves.rungs.prices[depth]


def state(b: Bench) -> str:
    return str(b.intake.state()["calibration"]["state"])
