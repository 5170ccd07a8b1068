"""The composition root: with `building`, `metering` and `opening` it names all drivers and doors.

`serve` builds everything from a Config, runs it until SIGTERM or SIGINT, and
takes it down in an order in which nothing accepted is lost: no new requests,
what runs is given back, the engine stops, the doors say goodbye, the last
outcomes are committed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import logs, notify
from appliance.building import build_engine, build_hours, engine_settings, weigher
from appliance.clock import Clock, SystemClock
from appliance.config import Config
from appliance.energy.attribution import Sight
from appliance.energy.books import Books
from appliance.energy.learned import Learned
from appliance.energy.meter_reader import MeterReader
from appliance.energy.metering import build_meters
from appliance.errands.bake import Bake
from appliance.errands.calibration import Calibration
from appliance.errands.errand import Errands
from appliance.errors import StorageFailed
from appliance.housekeeping import Housekeeping
from appliance.intake import Intake
from appliance.machine.attempt import Attempts
from appliance.machine.canary import Canary
from appliance.machine.deferral import Deferral
from appliance.machine.gathering import Gathering
from appliance.machine.lifecycle import ClockSet, Closed
from appliance.machine.moves import Moves
from appliance.machine.roster import Roster
from appliance.machine.supervisor import Supervisor
from appliance.notices import ApplianceChanged, EnergyBooked, Notices
from appliance.opening import feeds, open_doors, places
from appliance.power import policy, visits
from appliance.power.good_hours import GoodHours
from appliance.power.ladder import Rungs
from appliance.standing import Standing
from appliance.storage import ledger, rollup, state_dir
from appliance.storage.journal import Journal
from appliance.storage.store import Store
from drivers.meters import Meters
from drivers.protocols import Engine
from policies.guarded import Guarded

if TYPE_CHECKING:
    from appliance.storage.sql import Database
    from policies.replay import Trace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Appliance:
    """Everything wired and running, but for the doors."""

    intake: Intake
    bake: Bake
    calibration: Calibration
    hours: GoodHours
    supervisor: Supervisor
    reader: MeterReader
    store: Store
    clock: Clock


async def serve(config: Config, *, fake: bool = False, engine: Engine | None = None) -> None:
    """Run the daemon. Returns after SIGTERM or SIGINT, when everything has stopped.

    `fake`: an engine in memory, whatever the configuration names. `engine`: this one.

    Raises ConfigError, InUse or StorageFailed if it cannot start, and StorageFailed, once all
    has stopped, if the database is found to be damaged: the next start begins a new one.
    """
    # Nothing here makes cycles in earnest. With the defaults, each full collection walks
    # everything that waits: 50 ms with 40 000 requests in the inbox (bench/accepts.py).
    gc.set_threshold(20_000, 10, 10)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    engine, meters = engine or build_engine(config, fake=fake), build_meters(config)
    async with (
        running(config, engine, meters, clock) as appliance,
        asyncio.TaskGroup() as doors,
    ):
        tasks = await open_doors(config, appliance.intake, clock, doors)
        for feed in feeds(config, meters, appliance.hours.signal, clock):
            tasks.append(doors.create_task(feed.run(), name="feed"))
        tasks.append(doors.create_task(_report(appliance), name="status"))
        tasks.append(doors.create_task(_stop_if_damaged(appliance.store, stop), name="damage"))
        notify.ready("at rest")
        log.info("ready: %s", places(config))
        if config.power.start_awake or config.power.policy == "always_on":
            appliance.intake.wake()
        else:
            appliance.bake.look(bake=config.power.bake)
        await stop.wait()
        notify.stopping()
        log.info("stopping")
        appliance.supervisor.post(Closed())
        await appliance.supervisor.stopped.wait()
        for task in tasks:
            task.cancel()
    if appliance.store.damaged.is_set():
        raise StorageFailed(f"{appliance.store.path} was damaged: start again, with a new one")


async def _stop_if_damaged(store: Store, stop: asyncio.Event) -> None:
    await store.damaged.wait()
    stop.set()


@asynccontextmanager
async def running(
    config: Config, engine: Engine, meters: Meters | None, clock: Clock
) -> AsyncIterator[Appliance]:
    """Everything but the doors, until the context is left; then all is stopped and committed.

    Raises InUse if another daemon has the state directory.
    """
    with state_dir.held(Path(config.state_dir)):
        async with _running(config, engine, meters, clock) as appliance:
            yield appliance


@asynccontextmanager
async def _running(
    config: Config, engine: Engine, meters: Meters | None, clock: Clock
) -> AsyncIterator[Appliance]:
    alias, notices = config.engine.alias, Notices()
    store = Store(config.database)
    await store.open()
    try:
        rungs = Rungs(engine, await store.read(partial(ledger.last_wakes_s, engine=alias)))
        journal = Journal(store, clock)
        roster = Roster(engine_settings(config).max_running)
        books = await _open_books(alias, meters, store, clock)
        reader = MeterReader(meters, books, journal, clock, lambda: notices.tell(EnergyBooked()))
        attempts = Attempts(
            alias=alias,
            journal=journal,
            notices=notices,
            clock=clock,
            books=books,
            log_prompts=config.log.prompts,
        )
        for seconds in await store.read(partial(ledger.latest_service_s, engine=alias)):
            attempts.service_s.add(seconds)
        supervisor = Supervisor(
            engine=engine,
            policy=await _open_policy(config, store),
            moves=Moves(
                engine=engine,
                alias=alias,
                journal=journal,
                clock=clock,
                books=books,
                rungs=rungs,
                canary=Canary(engine, alias, store, clock),
            ),
            attempts=attempts,
            roster=roster,
            gathering=Gathering(config.inbox.batch_window_ms / 1000, clock),
            journal=journal,
            notices=notices,
            clock=clock,
            max_attempts=config.inbox.max_attempts,
        )
        errands = Errands(supervisor, notices)
        supervisor.idleness.windows = policy.StandingWishes(config.power).ahead
        hours = build_hours(config, clock)
        deferral = Deferral(
            config.defer,
            most=max(1, config.inbox.max_waiting // 2),
            hours=hours,
            service_s=attempts.service_s,
            rungs=rungs,
            roster=roster,
            supervisor=supervisor,
            notices=notices,
            clock=clock,
        )
        bake = Bake(
            engine=engine,
            alias=alias,
            store=store,
            supervisor=supervisor,
            errands=errands,
            reader=reader,
            journal=journal,
            notices=notices,
            clock=clock,
        )
        calibration = Calibration(
            engine=engine,
            alias=alias,
            device=books.device,
            source=books.source,
            rungs=rungs,
            store=store,
            supervisor=supervisor,
            errands=errands,
            journal=journal,
            notices=notices,
            clock=clock,
            look=reader.look,
            weigh=weigher(config),
        )
        standing = Standing(
            alias=alias,
            supervisor=supervisor,
            roster=roster,
            bake=bake,
            calibration=calibration,
            deferral=deferral,
            journal=journal,
            store=store,
            clock=clock,
        )
        intake = Intake(
            alias=alias,
            device=books.device,
            source=books.source,
            not_measured=reader.not_measured,
            store=store,
            journal=journal,
            roster=roster,
            supervisor=supervisor,
            bake=bake,
            calibration=calibration,
            errands=errands,
            standing=standing,
            deferral=deferral,
            notices=notices,
            clock=clock,
            max_waiting=config.inbox.max_waiting,
        )
        housekeeping = Housekeeping(
            store=store,
            reader=reader,
            clock=clock,
            keep_answers_s=config.inbox.keep_answers_s,
            keep_ids_s=config.inbox.keep_ids_s,
            keep_requests_s=config.ledger.keep_requests_s,
            keep_hours_s=config.ledger.keep_hours_s,
            jumped=lambda: supervisor.post(ClockSet()),
        )
        with logs.about(partial(_subject, alias, supervisor)):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(journal.run(), name="journal")
                tasks.create_task(supervisor.run(await intake.recover()), name="supervisor")
                reading = tasks.create_task(reader.run(), name="meters")
                others = [
                    tasks.create_task(housekeeping.run(), name="housekeeping"),
                    tasks.create_task(bake.run(), name="bake"),
                    tasks.create_task(calibration.run(), name="calibration"),
                    tasks.create_task(deferral.run(), name="deferral"),
                ]
                await supervisor.started.wait()
                try:
                    yield Appliance(
                        intake, bake, calibration, hours, supervisor, reader, store, clock
                    )
                finally:
                    supervisor.post(Closed())
                    await supervisor.stopped.wait()
                    for task in others:
                        task.cancel()
                    reader.close()
                    await asyncio.wait((reading,))
                    journal.close()
    finally:
        await store.close()


def _subject(alias: str, supervisor: Supervisor) -> dict[str, str]:
    """What each line of the log is about."""
    return {"engine": alias, "depth": ledger.word(supervisor.machine.depth)}


async def _open_policy(config: Config, store: Store) -> Guarded:
    built = policy.build_policy(config)
    if config.power.policy != "learned":
        return built

    def seen(db: Database) -> Trace:
        return visits.idle_periods(ledger.served(db, config.engine.alias, policy.REMEMBERED))

    return policy.remembering(built, await store.read(seen))


async def _open_books(alias: str, meters: Meters | None, store: Store, clock: Clock) -> Books:
    """With what an earlier daemon has learned about this machine."""
    await store.write(rollup.give_up)
    if meters is None:
        return Books(clock, engine=alias)
    meter = meters.billing
    kept = await store.read(partial(ledger.learned, engine=alias, device=meter.device))
    return Books(
        clock,
        engine=alias,
        device=meter.device,
        source=meter.source,
        sight=Sight(meter.window_s, meter.most_w),
        learned=Learned.of(kept, meter.idle_w),
    )


async def _report(appliance: Appliance) -> None:
    """Keep the service manager informed: on each change, and as often as its watchdog asks."""
    async with asyncio.TaskGroup() as tasks:
        if (interval_s := notify.watchdog_s()) is not None:
            tasks.create_task(_keep_watchdog_quiet(appliance.clock, interval_s))
        with appliance.intake.notices.subscribed(
            lambda notice: isinstance(notice, ApplianceChanged), limit=1
        ) as changes:
            async for _ in changes:
                state = appliance.intake.state()
                notify.status(
                    "{state}, {depth}, {waiting} waiting, {running} running".format(**state)
                )


async def _keep_watchdog_quiet(clock: Clock, interval_s: float) -> None:
    while True:
        notify.alive()
        await clock.sleep_until(clock.now() + interval_s)
