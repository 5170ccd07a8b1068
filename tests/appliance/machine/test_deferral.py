"""Batch requests wait for a good moment: fake engine, fake clock, real SQLite."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.config import Config, Defer, Inbox, Tariff
from appliance.errors import ConfigError
from appliance.machine.deferral import SOON_S, UNKNOWN_SERVICE_S
from appliance.machine.lifecycle import State
from appliance.notices import Progress
from policies.ladder import Depth
from tests.appliance.commands import daemon, wattnap, write_config
from tests.benches import AWAKE, IDLE_S, OFF, Bench, bench, configured, served
from tests.fake_clock import FakeClock

START_S = 10.0
DAY_S = 86400.0
MARGIN_S = 60.0


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


def deferring(
    folder: Path, *, clock: FakeClock | None = None, tariff: Tariff | None = None, **keys: Any
) -> AbstractAsyncContextManager[Bench]:
    return bench(folder, config=config(folder, tariff=tariff, **keys), clock=clock, start_s=START_S)


def config(folder: Path, *, tariff: Tariff | None = None, **keys: Any) -> Config:
    return msgspec.structs.replace(
        configured(folder), defer=Defer(**keys), tariff=tariff or Tariff()
    )


async def send(b: Bench, id: str, *, klass: str = "batch", **fields: Any) -> None:
    told = {"id": id, "class": klass, **fields}
    await b.send({"prompt": f"say {id}", "wattnap": told})


async def wakes(b: Bench) -> list[str]:
    return [str(cause) for (cause,) in await b.rows("SELECT cause FROM wakes ORDER BY at")]


async def test_it_waits_for_somebody_else(tmp_path: Path) -> None:
    """Alone it wakes nothing; a person does, and both are served by one wake."""
    async with deferring(tmp_path) as b:
        await send(b, "report")
        await b.clock.advance(3600)
        assert b.where == OFF
        assert b.intake.state()["deferred"] == 1
        assert b.intake.state()["waiting"] == 0

        await send(b, "question", klass="interactive")
        await b.clock.advance(START_S)
        assert await b.states() == {"report": "done", "question": "done"}
        assert await wakes(b) == ["request"]
        assert b.intake.state()["deferred"] == 0


async def test_people_come_first(tmp_path: Path) -> None:
    """With one place at the engine, who asked last is served before what could wait."""
    one = msgspec.structs.replace(
        config(tmp_path), engine=configured(tmp_path, max_running=1).engine
    )
    async with bench(tmp_path, config=one, start_s=START_S) as b:
        await send(b, "report")
        await send(b, "question", klass="interactive")
        await b.clock.advance(START_S)

        assert [b"report" in body for body in served(b.engine)] == [False, True]


async def test_an_awake_engine_serves_it_at_once(tmp_path: Path) -> None:
    """Also one that the operator woke; nothing is deferred then."""
    async with deferring(tmp_path) as b:
        await send(b, "early")
        b.intake.wake()
        await b.clock.advance(START_S)
        await send(b, "late")

        assert await b.states() == {"early": "done", "late": "done"}
        assert await wakes(b) == ["operator"]


async def test_the_latest_start_keeps_the_deadline(tmp_path: Path) -> None:
    """It wakes by itself, no sooner than it has to, and no later; why is told."""
    async with deferring(tmp_path, margin_s=MARGIN_S) as b:
        await send(b, "report", deadline_s=7200)
        need_s = b.supervisor.moves.rungs.longest_wake_s + UNKNOWN_SERVICE_S + MARGIN_S
        await b.clock.advance(7200 - need_s - 1)
        assert b.where == OFF

        await b.clock.advance(1 + START_S)
        assert await b.states() == {"report": "done"}
        assert await wakes(b) == ["defer"]
        why = [decision.why for decision in b.supervisor.decisions if "wakes" in decision.did]
        assert why == ["the latest start that is in time for 1 batch request"]


async def test_a_day_at_most(tmp_path: Path) -> None:
    """Without a deadline it waits for as long as is configured."""
    async with deferring(tmp_path, max_wait_s=DAY_S) as b:
        await send(b, "report")
        await b.clock.advance(DAY_S - 1)
        assert b.where == OFF

        await b.clock.advance(1 + START_S)
        assert await b.states() == {"report": "done"}


async def test_no_time_to_wait(tmp_path: Path) -> None:
    """A deadline that is near wakes it now, as does any batch request where none may wait."""
    async with deferring(tmp_path) as b:
        await send(b, "urgent", deadline_s=UNKNOWN_SERVICE_S + MARGIN_S)
        await b.clock.advance(START_S)
        assert await wakes(b) == ["request"]

    async with deferring(tmp_path / "never", max_wait_s=0) as b:
        await send(b, "report")
        await b.clock.advance(START_S)
        assert await wakes(b) == ["request"]


async def test_enough_of_them(tmp_path: Path) -> None:
    """So many together are worth a wake."""
    async with deferring(tmp_path, count=3) as b:
        await send(b, "one")
        await send(b, "two")
        assert b.where == OFF

        await send(b, "three")
        await b.clock.advance(START_S)
        assert set((await b.states()).values()) == {"done"}
        assert await wakes(b) == ["defer"]


async def test_others_need_room_too(tmp_path: Path) -> None:
    """However many may wait together, half of the inbox stays free."""
    small = msgspec.structs.replace(config(tmp_path), inbox=Inbox(max_waiting=4))
    async with bench(tmp_path, config=small, start_s=START_S) as b:
        await send(b, "one")
        await send(b, "two")

        assert b.where == (State.WAKING, Depth.OFF)


async def test_a_good_hour_by_the_tariff(tmp_path: Path) -> None:
    """They wake it when it begins; who comes within one waits an hour at most, for others."""
    clock = FakeClock()
    local = clock.utc().astimezone()
    begins = (local.hour + 2) % 24
    night = f"{begins:02}:00-{(begins + 4) % 24:02}:00"
    day = f"{(begins + 4) % 24:02}:00-{begins:02}:00"
    tariff = Tariff(per_kwh={night: 0.1, day: 0.3})
    async with deferring(tmp_path, clock=clock, tariff=tariff, good_hours="cheap") as b:
        await send(b, "before")
        until_s = 7200 - local.minute * 60
        await clock.advance(until_s - 1)
        assert b.where == OFF
        await clock.advance(1 + START_S)
        assert await b.states() == {"before": "done"}

        await clock.advance(IDLE_S + 1)
        await send(b, "within")
        await clock.advance(SOON_S - 1)
        assert b.where == OFF
        await clock.advance(1 + START_S)
        assert set((await b.states()).values()) == {"done"}
        assert await wakes(b) == ["defer", "defer"]


async def test_a_good_hour_by_a_topic(tmp_path: Path) -> None:
    """The moment the price is low enough; a price of long ago says nothing."""
    keys: dict[str, Any] = {"topic": "grid/now", "topic_field": "data.gco2"}
    keys["topic_at_most"] = 200.0
    async with deferring(tmp_path, **keys) as b:
        signal = b.appliance.hours.signal
        assert signal is not None
        await send(b, "report")
        signal.take(b'{"data": {"gco2": 350}}')
        signal.take(b'{"data": null}')
        await b.quiet()
        assert b.where == OFF

        signal.take(b'{"data": {"gco2": 199.5}}', retained=True)
        await b.clock.advance(START_S)
        assert await b.states() == {"report": "done"}

        await b.clock.advance(3 * 3600)
        await send(b, "later")
        await b.clock.advance(SOON_S + 1)
        assert b.where == OFF


def test_an_hour_that_nobody_can_name(tmp_path: Path) -> None:
    """Good hours without a tariff, a topic without a broker: refused, with the key."""
    from appliance.building import build_hours

    with pytest.raises(ConfigError, match=r"tariff\.per_kwh"):
        build_hours(config(tmp_path, good_hours="cheap"), FakeClock())
    without = config(tmp_path, topic="price")
    off = msgspec.structs.replace(
        without, mqtt=msgspec.structs.replace(without.mqtt, enabled=False)
    )
    with pytest.raises(ConfigError, match="MQTT"):
        build_hours(off, FakeClock())


async def test_it_rests_at_once_after_work_that_nobody_waits_for(tmp_path: Path) -> None:
    """Nobody is there who may ask on; and for the policy the gap goes on."""
    async with deferring(tmp_path) as b:
        await send(b, "question", klass="interactive")
        await b.clock.advance(START_S + IDLE_S + 1)
        assert b.where == OFF
        await send(b, "report", deadline_s=7200)
        await b.clock.advance(7200)

        assert set((await b.states()).values()) == {"done"}
        ((awake_s,),) = await b.rows("SELECT awake_s FROM wakes WHERE cause = 'defer'")
        assert awake_s == pytest.approx(0.0, abs=0.01)


async def test_work_in_between_is_no_new_beginning(tmp_path: Path) -> None:
    """It rests when it would have rested, by when people last asked."""
    async with deferring(tmp_path) as b:
        await send(b, "question", klass="interactive")
        await b.clock.advance(START_S)
        for _ in range(5):
            await b.clock.advance(IDLE_S / 6)
            await send(b, f"report-{b.clock.now():.0f}")
        assert b.where == AWAKE

        await b.clock.advance(IDLE_S / 6 + 1)
        assert b.where == OFF


async def test_a_restart_keeps_them_deferred(tmp_path: Path) -> None:
    """They wake nothing, and their time counts from when they were accepted."""
    clock = FakeClock()
    async with deferring(tmp_path, clock=clock) as b:
        await send(b, "report")
        await clock.advance(DAY_S / 2)

    async with deferring(tmp_path, clock=clock) as b:
        assert b.intake.state()["deferred"] == 1
        assert b.where == OFF
        await clock.advance(DAY_S / 2 - 1)
        assert b.where == OFF

        await clock.advance(1 + START_S)
        assert await b.states() == {"report": "done"}


def test_a_crash_keeps_them_deferred(place: Path) -> None:
    """SIGKILL of the daemon: the next one defers them; the operator's wake serves them."""
    configured_, log = write_config(place, "bake = false\n"), place / "log"
    body = '{"prompt": "report", "wattnap": {"class": "batch", "id": "one"}}'
    with daemon(configured_, log, "--start-s", "0.1", stand_in=True) as process:
        assert wattnap("submit", "-", given=body, config=configured_).returncode == 0
        process.kill()
        process.wait()
    with daemon(configured_, log, "--start-s", "0.1", stand_in=True):
        assert "1 batch request" in wattnap("status", config=configured_).stdout
        wattnap("wake", config=configured_)
        answer = wattnap("answer", "one", "--wait", config=configured_)
        assert answer.stdout
        assert "batch request" not in wattnap("status", config=configured_).stdout


async def test_what_ran_is_not_deferred_again(tmp_path: Path) -> None:
    """A stop while it runs: the next daemon runs it now."""
    clock = FakeClock()
    async with deferring(tmp_path, clock=clock) as b:
        b.intake.wake()
        await clock.advance(START_S)
        await b.send({"prompt": "poison", "wattnap": {"id": "runs", "class": "batch"}})
        await clock.advance(1)
        assert b.where == (State.WAKING, Depth.OFF)

    async with deferring(tmp_path, clock=clock) as b:
        assert b.where == (State.WAKING, Depth.OFF)


async def test_the_sender_is_told(tmp_path: Path) -> None:
    """Deferred, and for how long at most; then as any other."""
    async with deferring(tmp_path, max_wait_s=100) as b:
        told: list[Progress] = []

        def hear(notice: object) -> bool:
            if isinstance(notice, Progress):
                told.append(notice)
            return False

        with b.intake.notices.subscribed(hear):
            await send(b, "report")
            await b.clock.advance(100 + START_S)

        assert [progress.state for progress in told] == [
            *("queued", "deferred", "waking", "running", "done")
        ]
        assert told[1].expected_s == 100.0


async def test_one_that_waits_can_be_taken_back(tmp_path: Path) -> None:
    """Cancelled or expired, it wakes nothing."""
    async with deferring(tmp_path) as b:
        await send(b, "report")
        assert await b.intake.cancel("mqtt", "", "report")
        await b.clock.advance(2 * DAY_S)

        assert b.engine.calls == []
        assert b.intake.state()["deferred"] == 0


@pytest.mark.parametrize("seed", range(4))
async def test_every_deadline_is_kept(tmp_path: Path, seed: int) -> None:
    """People, batch requests and restarts at random: none expires, all are answered."""
    dice = random.Random(seed)
    clock, sent, hours = FakeClock(), 0, 0.0
    while hours < 48:
        async with deferring(tmp_path, clock=clock, count=dice.choice([0, 5, 40])) as b:
            b.engine.token_s = dice.choice([0.0, 0.5, 4.0])
            for _ in range(dice.randrange(5, 25)):
                pause_s = dice.expovariate(1 / 1800)
                hours += pause_s / 3600
                await clock.advance(pause_s)
                sent += 1
                if dice.random() < 0.2:
                    await send(b, f"person-{sent}", klass="interactive")
                else:
                    slack: dict[str, Any] = {"deadline_s": dice.uniform(200, DAY_S)}
                    await send(b, f"batch-{sent}", **(slack if dice.random() < 0.8 else {}))
    async with deferring(tmp_path, clock=clock) as b:
        await clock.advance(DAY_S + 600)

        states = await b.states()
        assert len(states) == sent
        assert set(states.values()) == {"done"}
        late = await b.rows(
            "SELECT count(*) FROM inbox WHERE deadline_s <"
            " (julianday(ended_at) - julianday(accepted_at)) * 86400"
        )
        assert late == [(0,)]
