"""The whole daemon but its process, beside a test that is not asynchronous.

Composed as `appliance.app` composes it: doors, intake, supervisor, SQLite. Only the
engine is the fake one. It lives on a loop of its own, which runs while a test has it
run something, so that Hypothesis can drive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import sqlite3
import sys
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import uvloop

from appliance import app
from appliance.clock import SystemClock
from appliance.config import Config, Energy, Engine, Inbox, Mqtt, Power, Socket
from appliance.config_http import Http
from appliance.machine.lifecycle import State
from appliance.notices import ApplianceChanged, Notice
from appliance.opening import open_doors
from drivers.fake import FakeEngine, FakeMeter
from drivers.meters import Meters
from tests.brokers import free_port
from tests.fuzz.payloads import LIMIT_BYTES
from tests.mqtt_wire import wired

T = TypeVar("T")

RECURSION_LIMIT = 1000
"""Python's own."""

GROWTH_BYTES = 96 * 1024 * 1024
"""More than that is not kept, whatever was sent."""


class Errors(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


class Whole:
    """A running daemon in `folder`; with a broker at `port`, if there is one.

    `name`: one of its own for each daemon of a broker, which keeps what it has for others.
    `unhandled` and `errors` are to stay empty. `changes` counts the machine's moves.
    """

    def __init__(self, folder: Path, name: str, port: int | None = None) -> None:
        self.config = Config(
            name=name,
            state_dir=str(folder / "state"),
            runtime_dir=str(folder / "run"),
            socket=Socket(path=str(folder / "s")),
            http=Http(listen=f"127.0.0.1:{free_port()}"),
            mqtt=Mqtt(enabled=port is not None, port=port or 1883, retry_min_s=0.05),
            engine=Engine(kind="fake"),
            power=Power(idle_timeout_s=3600.0),
            inbox=Inbox(max_request_bytes=LIMIT_BYTES),
            energy=Energy(),
        )
        self.engine = FakeEngine()
        self.unhandled: list[dict[str, Any]] = []
        self.errors = Errors()
        self.changes = 0
        self.appliance: app.Appliance
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stop = asyncio.Event()
        self._prompts = 0

    def __enter__(self) -> Self:
        Path(self.config.state_dir).mkdir(parents=True)
        self._runner.__enter__()
        loop = self._runner.get_loop()
        loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        logging.getLogger().addHandler(self.errors)
        ready = asyncio.Event()
        self._life = loop.create_task(self._live(ready))
        self.run(self._within(ready.wait()))
        if self.config.mqtt.enabled:
            self.run(self._online())
        self.run(self.prompt())  # what is made once is made now
        self._descriptors, self._tasks = self.run(self._held())
        self._rss_bytes = psutil.Process().memory_info().rss
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stop.set()
            self.run(self._within(asyncio.wait([self._life])))
        finally:
            logging.getLogger().removeHandler(self.errors)
            self._runner.close()
        if kind is None:
            assert self._life.exception() is None

    async def _live(self, ready: asyncio.Event) -> None:
        engine, meters = self.engine, Meters(FakeMeter())
        async with (
            app.running(self.config, engine, meters, SystemClock()) as self.appliance,
            asyncio.TaskGroup() as doors,
        ):
            desk, clock = self.appliance.intake, self.appliance.clock
            tasks = await open_doors(self.config, desk, clock, doors)
            with self.appliance.intake.notices.subscribed(self._count, limit=1):
                ready.set()
                await self._stop.wait()
            for task in tasks:
                task.cancel()

    async def _online(self) -> None:
        availability = f"{self.config.mqtt_base}/availability"
        async with wired(self.config.mqtt.port, filters=(availability,)) as someone:
            assert (await someone.hears(availability)).payload == b"online"

    def _count(self, notice: Notice) -> bool:
        self.changes += isinstance(notice, ApplianceChanged)
        return False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the daemon live while `work` runs, within a daemon's limits."""
        given = sys.getrecursionlimit()  # Hypothesis gives itself more
        sys.setrecursionlimit(RECURSION_LIMIT)
        try:
            return self._runner.run(work)
        finally:
            sys.setrecursionlimit(given)

    async def _within(self, work: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
        async with asyncio.timeout(seconds):
            return await work

    async def say(self, *lines: bytes) -> list[dict[str, Any]]:
        """Over the socket, as one client: the events, once it has no more to say."""
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_unix_connection(
                self.config.socket_path, limit=2**22
            )
            writer.write(b"".join(line + b"\n" for line in lines))
            writer.write_eof()
            told = await reader.read()
            writer.close()
        return [json.loads(line) for line in told.splitlines()]

    async def prompt(self) -> None:
        """A decent one, durable, and under no id that strangers use. It is answered at once."""
        self._prompts += 1
        id = f"decent-{self._prompts}"
        line = {"op": "submit", "wait": True, "id": id, "request": "still there?"}
        events = await self.say(json.dumps(line).encode())
        assert events, "the socket door says nothing"
        assert events[-1].get("answer", {}).get("text") == "still there?", events

    async def asleep(self) -> None:
        """Return once it rests."""
        self.appliance.intake.rest()
        async with asyncio.timeout(20):
            while self.appliance.supervisor.machine.state is not State.ASLEEP:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def refused(self, door: str) -> int:
        """Refusals in the ledger: of all that has reached the daemon so far."""
        store = self.appliance.store
        for _ in range(3):  # a conflict is found in one commit and noted in a later one
            await store.write(lambda _: None)
        sql = "SELECT count(*) FROM ledger_request WHERE state = 'refused' AND door = ?"
        return int(await store.read(lambda db: db.execute(sql, (door,)).fetchone()[0]))

    async def accepted(self, door: str) -> set[str]:
        """Ids in the inbox."""
        sql = "SELECT id FROM inbox WHERE door = ?"
        found = await self.appliance.store.read(lambda db: db.execute(sql, (door,)).fetchall())
        return {id for (id,) in found}

    def lives(self) -> None:
        """It goes on as if nothing had been said, and has nothing to complain of."""
        self.run(self.prompt())
        assert not self._life.done()
        assert not self.unhandled
        assert not self.errors.told

    def obituary(self) -> str:
        """What it has to say for itself."""
        told = [*map(str, self.unhandled), *self.errors.told]
        if self._life.done() and (cause := self._life.exception()) is not None:
            told += traceback.format_exception(cause)
        return "\n".join(told)

    def holds_nothing(self) -> None:
        """What was accepted has ended and is delivered; nobody and nothing is left over."""
        self.run(self._drained())
        assert len(self.appliance.intake._roster) == 0
        assert not self.appliance.intake._roster._by_key
        grown_bytes = psutil.Process().memory_info().rss - self._rss_bytes
        assert grown_bytes < GROWTH_BYTES

    async def _drained(self) -> None:
        async with asyncio.timeout(20):
            while (
                self.appliance.intake.state()["waiting"]
                or self.appliance.intake.state()["running"]
                or await self._outbox()
                or await self._has_more()
            ):
                await asyncio.sleep(0.02)
                gc.collect()

    async def _outbox(self) -> int:
        read = self.appliance.store.read
        return int(await read(lambda db: db.execute("SELECT count(*) FROM outbox").fetchone()[0]))

    async def _has_more(self) -> bool:
        descriptors, tasks = await self._held()
        # Two wait for the next deadline, also if its request has ended.
        return descriptors > self._descriptors + 1 or tasks > self._tasks + 2

    async def _held(self) -> tuple[int, int]:
        """Descriptors and tasks: what leaks shows in one of them."""
        return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())

    def check_database(self) -> None:
        """After its end: each request has one outcome, one line, and an answer of its own."""
        db = sqlite3.connect(self.config.database)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ended = db.execute("SELECT seq, id, state, code, answer FROM inbox").fetchall()
            told = db.execute(
                "SELECT request, state FROM ledger_request WHERE request IS NOT NULL"
            ).fetchall()
        finally:
            db.close()
        lines = dict(told)
        assert len(lines) == len(told)
        for seq, id, state, code, raw in ended:
            answer = json.loads(raw)
            assert answer["id"] == id
            assert lines.pop(seq) == state
            assert (state, code) == (
                ("failed", answer["error"]["code"]) if "error" in answer else ("done", None)
            )
        assert not lines


class Bench:
    """One daemon for many batches; after a failure, a fresh one for the next batch.

    Else what Hypothesis tries, to find the few messages that matter, would be judged
    by a daemon that is dead already. `said` is for counting messages.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.said = 0
        self._folder, self._port, self._made = folder, port, 0
        self._whole: Whole | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Judge what only shows in the end."""
        whole, self._whole = self._whole, None
        if whole is None:
            return
        try:
            if kind is None:
                whole.holds_nothing()
        finally:
            whole.__exit__(kind, error, trace)
        if kind is None:
            whole.check_database()

    @contextlib.contextmanager
    def batch(self) -> Iterator[Whole]:
        """The daemon, for some messages. It must live afterwards."""
        if self._whole is None:
            self._made += 1
            name = f"fuzzed-{self._made}"
            self._whole = Whole(self._folder / str(self._made), name, self._port)
            self._whole.__enter__()
        try:
            yield self._whole
            self._whole.lives()
        except BaseException as error:
            error.add_note(self._whole.obituary())
            with contextlib.suppress(Exception):
                self.__exit__(type(error), error, error.__traceback__)
            self._whole = None
            raise
