"""The composition root: it and `metering` alone name concrete drivers, policies and doors.

`serve` builds everything from a Config, runs it until SIGTERM or SIGINT, and
takes it down in an order in which nothing accepted is lost: no new requests,
what runs is given back, the engine stops, the doors say goodbye, the last
outcomes are committed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Literal

from appliance import defaults, ledger, notify, state_dir
from appliance.bake import Bake
from appliance.books import Books
from appliance.canary import Canary
from appliance.clock import Clock, SystemClock
from appliance.config import Config
from appliance.errand import Errands
from appliance.errors import ConfigError, StorageFailed
from appliance.housekeeping import Housekeeping
from appliance.intake import Intake
from appliance.journal import Journal
from appliance.ladder import Rungs
from appliance.lifecycle import Closed
from appliance.metering import build_meters, plugs
from appliance.models import in_the_box, served
from appliance.notices import ApplianceChanged, Notices
from appliance.roster import Roster
from appliance.store import Store
from appliance.supervisor import Supervisor
from drivers.meters import Meters
from drivers.probe import nvidia_gpus, probe
from drivers.protocols import Engine, Meter
from policies.always_on import AlwaysOn
from policies.fixed import Fixed
from policies.ladder import Depth, Policy

log = logging.getLogger(__name__)

VERSION = version_of("wattnap")


@dataclass(frozen=True, slots=True)
class Appliance:
    """Everything wired and running, but for the doors."""

    intake: Intake
    bake: Bake
    supervisor: Supervisor
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
        running(config, engine, meters.billing if meters else None, clock) as appliance,
        asyncio.TaskGroup() as doors,
    ):
        tasks = await _open_doors(config, appliance, doors)
        tasks += _listen_to_plugs(config, meters, clock, doors)
        tasks.append(doors.create_task(_report(appliance), name="status"))
        tasks.append(doors.create_task(_stop_if_damaged(appliance.store, stop), name="damage"))
        notify.ready("at rest")
        log.info("ready: socket %s, MQTT %s", config.socket_path, _broker(config))
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
    config: Config, engine: Engine, meter: Meter | None, clock: Clock
) -> AsyncIterator[Appliance]:
    """Everything but the doors, until the context is left; then all is stopped and committed.

    Raises InUse if another daemon has the state directory.
    """
    with state_dir.held(Path(config.state_dir)):
        async with _running(config, engine, meter, clock) as appliance:
            yield appliance


@asynccontextmanager
async def _running(
    config: Config, engine: Engine, meter: Meter | None, clock: Clock
) -> AsyncIterator[Appliance]:
    alias, notices = config.engine.alias, Notices()
    store = Store(config.database)
    await store.open()
    try:
        rungs = Rungs(engine, await store.read(partial(ledger.last_wakes_s, engine=alias)))
        journal = Journal(store, clock)
        roster = Roster(engine_settings(config).max_running)
        books = Books(meter, clock, engine=alias, device=meter.device if meter else "unmeasured")
        supervisor = Supervisor(
            engine=engine,
            alias=alias,
            policy=build_policy(config),
            rungs=rungs,
            canary=Canary(engine, alias, store, clock),
            roster=roster,
            journal=journal,
            notices=notices,
            clock=clock,
            books=books,
            max_attempts=config.inbox.max_attempts,
        )
        errands = Errands(supervisor, notices)
        bake = Bake(
            engine=engine,
            alias=alias,
            store=store,
            supervisor=supervisor,
            errands=errands,
            journal=journal,
            notices=notices,
            clock=clock,
        )
        intake = Intake(
            alias=alias,
            device=books.device,
            store=store,
            journal=journal,
            roster=roster,
            supervisor=supervisor,
            bake=bake,
            errands=errands,
            notices=notices,
            clock=clock,
            max_waiting=config.inbox.max_waiting,
        )
        housekeeping = Housekeeping(
            store=store,
            supervisor=supervisor,
            clock=clock,
            keep_answers_s=config.inbox.keep_answers_s,
            keep_ids_s=config.inbox.keep_ids_s,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(journal.run(), name="journal")
            tasks.create_task(supervisor.run(await intake.recover()), name="supervisor")
            others = [
                tasks.create_task(housekeeping.run(), name="housekeeping"),
                tasks.create_task(bake.run(), name="bake"),
            ]
            await supervisor.started.wait()
            try:
                yield Appliance(intake, bake, supervisor, store, clock)
            finally:
                supervisor.post(Closed())
                await supervisor.stopped.wait()
                for task in others:
                    task.cancel()
                journal.close()
    finally:
        await store.close()


async def _open_doors(
    config: Config, appliance: Appliance, doors: asyncio.TaskGroup
) -> list[asyncio.Task[None]]:
    """Start each door that is configured. Returns once clients can connect to the socket."""
    from appliance.doors.socket import SocketDoor

    listening = asyncio.Event()
    socket = SocketDoor(
        path=config.socket_path,
        mode=int(config.socket.mode, 8),
        group=config.socket.group,
        desk=appliance.intake,
        max_request_bytes=config.inbox.max_request_bytes,
    )
    tasks = [doors.create_task(socket.run(listening.set), name="socket door")]
    if config.mqtt.enabled:
        from appliance.doors.mqtt import MqttDoor

        mqtt = MqttDoor(
            config.mqtt,
            name=config.name,
            base=config.mqtt_base,
            desk=appliance.intake,
            max_request_bytes=config.inbox.max_request_bytes,
            clock=appliance.clock,
            version=VERSION,
        )
        tasks.append(doors.create_task(mqtt.run(), name="mqtt door"))
    await listening.wait()
    return tasks


def _listen_to_plugs(
    config: Config, meters: Meters | None, clock: Clock, doors: asyncio.TaskGroup
) -> Iterator[asyncio.Task[None]]:
    for plug in plugs(meters):
        from appliance.doors.mqtt_plug import PlugFeed

        feed = PlugFeed(config.mqtt, name=config.name, meter=plug, clock=clock)
        yield doors.create_task(feed.run(), name="plug")


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


def _broker(config: Config) -> str:
    return f"{config.mqtt.host}:{config.mqtt.port}" if config.mqtt.enabled else "off"


def build_policy(config: Config) -> Policy:
    if config.power.policy == "always_on":
        return AlwaysOn()
    depth = config.power.max_depth
    return Fixed(
        idle_timeout_s=config.power.idle_timeout_s,
        max_depth=None if depth == "auto" else Depth[depth.upper()],
    )


def engine_settings(config: Config) -> defaults.Settings:
    """What the engine is told on this machine: the file's values, and what "auto" means here."""
    model = Path(served(config.engine.model))
    return defaults.settings(config.engine, probe(), defaults.weights_bytes(model))


def _graph_sizes(
    asked: tuple[int, ...] | Literal["auto"], device: str
) -> tuple[int, ...] | Literal["few"]:
    if asked != "auto":
        return asked
    return "few" if device == "cuda" else ()  # a CPU has no graphs


def build_engine(config: Config, *, fake: bool = False) -> Engine:
    """The engine that the configuration names. Raises ConfigError if it cannot be started."""
    settings, chosen = config.engine, engine_settings(config)
    if fake or settings.kind == "fake":
        from drivers.fake import FakeEngine

        return FakeEngine(start_s=1.0, token_s=0.02, lacks={"park": "there is no GPU to leave"})
    from drivers.power_client import find_checkpointer
    from drivers.vllm import VllmEngine
    from drivers.vllm_settings import Settings

    if not os.access(settings.python, os.X_OK):
        raise ConfigError(
            f"engine.python: {settings.python} is no program; "
            "name the interpreter of a virtual environment that has vLLM"
        )
    device = settings.device
    if device == "auto":
        device = "cuda" if nvidia_gpus() else "cpu"
    env, model = dict(settings.env), served(settings.model)
    if in_the_box(model) and device == "cpu":
        # The model in the box is so small that a second thread only waits for the first
        # (docs/measurements, 2026-11-21).
        env.setdefault("OMP_NUM_THREADS", "1")
    return VllmEngine(
        python=Path(settings.python),
        model=model,
        served_name=settings.alias,
        runtime_dir=Path(config.runtime_dir) / settings.alias,
        cache_dir=config.cache_dir,
        args=settings.args,
        env=env,
        device=device,
        settings=Settings(
            max_model_len=settings.max_model_len or None,
            kv_cache_bytes=chosen.kv_cache_bytes,
            max_num_seqs=chosen.max_running,
            enforce_eager=chosen.enforce_eager,
            quantization=settings.quantization,
            speculative_ngram_tokens=settings.speculative_ngram_tokens,
            priority_scheduling=settings.priority_scheduling,
            prefix_caching=None if settings.prefix_caching == "auto" else settings.prefix_caching,
            cudagraph_capture_sizes=_graph_sizes(settings.cudagraph_capture_sizes, device),
            startup_plan=settings.startup_plan,
        ),
        start_timeout_s=settings.start_timeout_s,
        stop_timeout_s=settings.stop_timeout_s,
        stall_timeout_s=settings.stall_timeout_s,
        sleep_level=0 if "sleep" in chosen.without else settings.sleep_level,
        warm_host="host" not in chosen.without,
        checkpointer=None if "park" in chosen.without else find_checkpointer(),
    )
