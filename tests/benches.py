"""The whole appliance minus the hardware: fake engine, fake clock, real SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.app import Appliance, running
from appliance.config import Config, Energy, Engine, Inbox, Power
from appliance.desk import Receipt, Told
from appliance.intake import Intake
from appliance.machine import canary
from appliance.machine.lifecycle import State
from appliance.machine.supervisor import Supervisor
from appliance.request import parse
from drivers.fake import FakeEngine, FakeMeter
from drivers.meters import Meters
from drivers.protocols import Cadence, Reply, Rest
from policies.ladder import Depth
from tests.fake_clock import FakeClock, settled

AWAKE = (State.AWAKE, Depth.AWAKE)
PARKED = (State.ASLEEP, Depth.PARKED)
OFF = (State.ASLEEP, Depth.OFF)
IDLE_S = 60.0
SELDOM = Cadence(busy_hz=0.1, moving_hz=0.1, idle_s=600.0, rest_s=3600.0)
"""Of the meter: each look is a stop of the clock, for all that waits."""
NOTHING_BETWEEN: Mapping[Rest, str] = dict.fromkeys(("sleep", "park", "host"), "not in this test")


class BrittleEngine(FakeEngine):
    """Breaks off the next `break_off` answers, and lives on."""

    break_off = 0

    def _answer(self, path: str, body: bytes, *, stream: bool) -> Reply:
        reply = super()._answer(path, body, stream=stream)
        if self.break_off:
            self.break_off -= 1
            return Reply(reply.status, reply.headers, first(reply.chunks))
        return reply


def served(engine: FakeEngine) -> list[bytes]:
    """The bodies of the requests it took, but for the checks after a wake."""
    return [body for body in engine.served if canary.PROMPT.encode() not in body]


async def first(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
        break


@dataclass
class Bench:
    appliance: Appliance
    engine: BrittleEngine
    meter: FakeMeter
    clock: FakeClock
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def supervisor(self) -> Supervisor:
        return self.appliance.supervisor

    @property
    def intake(self) -> Intake:
        return self.appliance.intake

    @property
    def where(self) -> tuple[State, Depth]:
        return self.supervisor.machine.state, self.supervisor.machine.depth

    async def quiet(self) -> None:
        """Return once nothing more happens without time passing."""
        for _ in range(6):
            await settled()
            await asyncio.to_thread(lambda: None)  # what was begun in one before is over
            await self.appliance.store.write(lambda _: None)
            await self.appliance.store.read(lambda _: None)

    async def send(
        self, payload: str | dict[str, Any], *, reply_to: bytes | None = b"here", door: str = "mqtt"
    ) -> Receipt:
        """Accept one durable request, and let happen what follows."""
        raw = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
        request, _ = parse(raw, door=door, limit_bytes=1_000_000)
        receipt = await self.intake.accept(request, reply_to=reply_to)
        await self.quiet()
        self.receipts.append(receipt)
        return receipt

    async def ask(self, payload: str | dict[str, Any]) -> list[Told]:
        """A live call, to its end."""
        raw = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
        request, _ = parse(raw, door="socket", limit_bytes=1_000_000)
        async with self.intake.call(request) as events:
            return [event async for event in events]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        await self.quiet()
        return await self.appliance.store.read(lambda db: list(db.execute(sql).fetchall()))

    async def states(self) -> dict[str, str]:
        return {str(id): str(state) for id, state in await self.rows("SELECT id, state FROM inbox")}

    async def answers(self) -> list[Any]:
        """What the outbox holds, decoded."""
        return [
            msgspec.json.decode(answer)
            for (answer,) in await self.rows(
                "SELECT answer FROM outbox JOIN inbox ON seq = request ORDER BY number"
            )
        ]


def configured(
    folder: Path,
    *,
    idle_timeout_s: float = IDLE_S,
    max_running: int = 8,
    max_waiting: int = 1000,
    policy: str = "fixed",
) -> Config:
    return Config(
        state_dir=str(folder / "state"),
        runtime_dir=str(folder / "run"),
        engine=Engine(kind="fake", max_running=max_running),
        power=Power(
            idle_timeout_s=idle_timeout_s, policy="fixed" if policy == "fixed" else "always_on"
        ),
        inbox=Inbox(max_waiting=max_waiting),
        energy=Energy(),
    )


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    config: Config | None = None,
    clock: FakeClock | None = None,
    start_s: float = 0.0,
    lacks: Mapping[Rest, str] = NOTHING_BETWEEN,
    recipe: str = "",
    to_prepare: int = 1,
    pieces: int = 0,
    piece_s: float = 0.0,
    source: str = "estimate",
    metered: bool = True,
) -> AsyncIterator[Bench]:
    """A running appliance in `folder`; a second one there sees what a restart sees.

    Its engine is on or off, unless `lacks` lets it rest in between.
    """
    clock = clock or FakeClock()
    engine = BrittleEngine(
        start_s=start_s,
        lacks=lacks,
        recipe=recipe,
        to_prepare=to_prepare,
        pieces=pieces,
        piece_s=piece_s,
        sleep=clock.sleep,
    )
    meter = FakeMeter(now=clock.now, source=source)
    meter.cadence = SELDOM
    meters = Meters(meter, now=clock.now) if metered else None
    async with running(config or configured(folder), engine, meters, clock) as appliance:
        made = Bench(appliance, engine, meter, clock)
        clock.settle = made.quiet
        await made.quiet()
        yield made
        clock.settle = settled
