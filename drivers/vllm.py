"""A vLLM server as a child process, spoken to over a unix socket.

Everything of one engine's life is under one folder, `<runtime_dir>/engine`: the
socket, vLLM's own IPC sockets, its temporary files, the guard's record. The folder
is made by start() and gone after stop(), whoever was killed meanwhile.

Never decides whether to start, retries nothing, logs the server's output at DEBUG.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from drivers.checkpointer import Checkpointer
from drivers.errors import (
    Denied,
    Died,
    DriverError,
    NotPermitted,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.process import Child
from drivers.protocols import EngineFacts, Reply, Rest
from drivers.tenants import NvmlTenants, Tenants
from drivers.upstream import Upstream
from drivers.vllm_command import BOOST_SWITCH, READY_LINE, last_words, shows_progress
from drivers.vllm_core import Watch
from drivers.vllm_fit import Fit
from drivers.vllm_home import Home
from drivers.vllm_order import Order, Orders, versions
from drivers.vllm_park import Park, why_not_park
from drivers.vllm_rest import Sleep, SleepLevel
from drivers.vllm_settings import Settings
from drivers.warm_host import Start, WarmHost

NOTICE_S = 2.0
"""How long a broken connection waits for the news that the engine has died."""


class VllmEngine:
    """One vLLM server.

    python           of the venv that has vLLM; need not be ours, nor of our version
    model            a folder, or a name that vLLM resolves
    runtime_dir      ours alone (0700), on a short path: it holds sockets
    cache_dir        vLLM's compile caches, and the weights' image if sleep_level is 2;
                     kept between lives, worth seconds per start and per waking
    device           "cpu" or "cuda"
    args             further flags of `vllm serve`; paths in them are absolute
    env              further environment; wins over ours
    settings         its size and speed; a start that does not fit makes the next one smaller
    start_timeout_s  from the order until it can serve; a first start compiles
    stop_timeout_s   what running requests get to end when it is stopped
    stall_timeout_s  without any sign of life while requests wait: Unresponsive
    sleep_level      0: it never sleeps. On memory that CPU and GPU share, 1 gains nothing
    sleep_timeout_s  to fall asleep; see drivers.vllm_rest
    wake_timeout_s   to wake from sleep
    warm_host        keep a process that has imported vLLM, and fork servers from it
    checkpointer     takes it off the GPU when it parks; None: it never parks
    tenants          tells who is on the GPU; None: NVML does
    launch           instead of `python` and its vLLM: a command that takes the same
                     flags, and the vLLM version that it plays
    """

    def __init__(
        self,
        *,
        python: Path,
        model: str,
        served_name: str,
        runtime_dir: Path,
        cache_dir: Path,
        name: str = "vllm",
        device: str = "cuda",
        args: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        start_timeout_s: float = 900.0,
        stop_timeout_s: float = 10.0,
        stall_timeout_s: float = 120.0,
        sleep_level: SleepLevel = 0,
        sleep_timeout_s: float = 120.0,
        wake_timeout_s: float = 120.0,
        warm_host: bool = False,
        checkpointer: Checkpointer | None = None,
        tenants: Tenants | None = None,
        launch: tuple[tuple[str, ...], str] | None = None,
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ValueError(f"device must be cpu or cuda, not {device!r}")
        self.name = name
        self.lacks: Mapping[Rest, str] = {
            **({} if sleep_level else {"sleep": "sleep_level is 0"}),
            **({"park": why} if (why := why_not_park(device, sleep_level, checkpointer)) else {}),
            **({} if warm_host else {"host": "warm_host is off"}),
        }
        # What the operator has set is not ours to change.
        switched = device == "cuda" and BOOST_SWITCH not in (env or {})
        self.as_shipped: bool | None = False if switched else None
        self._served_name = served_name
        self._home = Home(runtime_dir)
        self._orders = Orders(
            name=name,
            python=python.absolute(),
            model=model,
            served_name=served_name,
            home=self._home,
            cache_dir=cache_dir,
            device=device,
            args=args,
            env=env or {},
            settings=settings or Settings(),
            sleep_level=sleep_level,
            start_timeout_s=start_timeout_s,
            stop_timeout_s=stop_timeout_s,
            launch=launch,
        )
        self._fit = Fit(cache_dir / f"fit-{served_name}.json", self._orders.settings, args)
        self._image = cache_dir.absolute() / "images" / served_name
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._sleep_level = sleep_level
        self._sleep_timeout_s = sleep_timeout_s
        self._wake_timeout_s = wake_timeout_s
        self._park = Park(name, checkpointer, tenants or NvmlTenants()) if checkpointer else None
        imports = "none" if launch else device
        self._host = (
            WarmHost(name, python=self._orders.python, device=imports, model=model)
            if warm_host
            else None
        )
        self._child: Child | None = None
        self._upstream: Upstream | None = None
        self._sleep: Sleep | None = None  # None: this life cannot
        self._facts: EngineFacts | None = None  # not None: it serves
        self._announced = asyncio.Event()
        self._watch: Watch | None = None
        self._death = (0, "no process")  # how the last life ended: status, last words
        self._denied = False  # parking, to this life
        self._dead = asyncio.Event()  # and nobody had asked for it

    async def recipe(self) -> str:
        return await self._orders.recipe()

    async def ingredients(self) -> Mapping[str, str]:
        return await self._orders.ingredients()

    async def start(self) -> EngineFacts:
        if self._facts is None:
            self._dead.clear()
            try:
                self._facts = await self._start()
            except BaseException:
                await self._abandon()
                raise
        return self._facts

    async def prepare(self) -> bool:
        if "sleep" in self.lacks:
            return False
        self._need_process()
        assert self._sleep is not None
        return await self._sleep.prepare()

    async def sleep(self) -> str:
        if (why := self.lacks.get("sleep")) is not None:
            raise NotSupported(self.name, why)
        self._need_process()
        assert self._sleep is not None
        return await self._sleep.sleep()

    async def park(self) -> None:
        if (why := self.lacks.get("park")) is not None:
            raise NotSupported(self.name, why)
        self._need_process()
        assert self._park is not None
        assert self._child is not None
        try:
            await self._park.park(self._child)
        except (NotPermitted, NotSupported) as error:
            self._lack("park", str(error))
            self._denied = isinstance(error, Denied)
            raise NotSupported(self.name, str(error)) from error

    async def dismiss(self) -> None:
        await self.stop()
        if self._host is not None:
            await self._host.end()

    async def wake(self) -> None:
        self._need_process()
        if self._park is not None:
            await self._park.unpark()
        if self._sleep is not None:
            await self._sleep.wake()

    async def stop(self) -> None:
        """As promised; running requests get `stop_timeout_s` to end.

        Then it is killed, not asked. We are its only client, so that nothing runs in
        it; being asked it takes 4.7 s (0.32, CPU) against 0.2 s, and by its own
        default it kills its EngineCore at once too (v1/utils.py:605).
        """
        self._facts = None
        self._death = (0, "stopped")
        self._dead.clear()
        try:
            if self._upstream is not None and self._child is not None and not self._child.ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._stop_timeout_s):
                        await self._upstream.idle()
        finally:
            await self._abandon()

    async def died(self) -> None:
        await self._dead.wait()
        raise Died(self.name, *self._death)

    def request(
        self, path: str, body: bytes, *, stream: bool
    ) -> AbstractAsyncContextManager[Reply]:
        upstream = self._need_process()
        if self._sleep is not None:
            self._sleep.need_awake()
        return upstream.post(path, body, stream=stream)

    def _need_process(self) -> Upstream:
        if self._facts is None or self._upstream is None:
            raise Died(self.name, *self._death)
        return self._upstream

    # Starting.

    async def _start(self) -> EngineFacts:
        order = await self._orders.make()

        async def launch(start: Start) -> EngineFacts:
            await self._abandon()  # a life that ended by itself, or had no host
            return await self._live(start, order)

        if self._host is None:
            return await launch(Child.start)
        facts = await self._host.start(
            launch,
            install=(order.install, versions.stamp(self._orders.python)),
            env=order.variables,
            within_s=self._start_timeout_s,
        )
        self._lack("host", self._host.lacks)
        return facts

    async def _live(self, start: Start, order: Order) -> EngineFacts:
        if self._denied:
            self._denied = False
            self._lack("park", "")
        settings = self._fit.begin(await order.key(self._orders.settings))
        flags = order.flags(settings)
        await self._home.make(self.name)
        child = self._child = Child(self.name, on_line=self._hear, on_end=self._end)
        upstream = self._upstream = Upstream(
            self.name, self._home.socket, stall_timeout_s=self._stall_timeout_s, blame=self._blame
        )
        await upstream.open()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await start(
                    child,
                    [*order.command, *flags],
                    env=order.environment(settings) | self._unswitched(),
                    directory=self._home.path,
                    grace_s=self._stop_timeout_s,
                    group=f"engine/{self._served_name}",
                )
                await self._ready(child, upstream)
                await self._learn_to_sleep(upstream, order.sleepless)
                await child.note()
        except TimeoutError as error:
            late = f"not ready within {self._start_timeout_s:.0f} s: {last_words(child.tail)}"
            raise Unresponsive(self.name, late) from error
        except OSError as error:
            shutil.rmtree(self._home.path, ignore_errors=True)  # nobody else will
            raise Refused(self.name, f"cannot start a process: {error.strerror}") from error
        identity = await order.identity(flags)
        if child.ended:
            raise self._fit.failed(self.name, child.tail, child.status or 0)
        self._fit.worked()
        self._watch = Watch(child.others, child.end)
        return EngineFacts(
            kind="vllm",
            identity=identity,
            version=order.install.version,
            pids=(child.pid, *child.others),
            flags=tuple(flags),
            smaller=self._fit.smaller,
        )

    def _unswitched(self) -> dict[str, str]:
        return {BOOST_SWITCH: "0"} if self.as_shipped else {}

    async def _learn_to_sleep(self, upstream: Upstream, sleepless: str) -> None:
        """Know whether this life can sleep, given why its version cannot."""
        sleep = Sleep(
            upstream,
            level=self._sleep_level,
            image=self._image,
            sleep_timeout_s=self._sleep_timeout_s,
            wake_timeout_s=self._wake_timeout_s,
        )
        why = sleepless or await sleep.check()
        self._sleep = None if why else sleep
        self._lack("sleep", why)

    def _lack(self, rest: Rest, why: str) -> None:
        """Say why it cannot rest so, or, by "", that it can."""
        others: dict[Rest, str] = {
            known: reason for known, reason in self.lacks.items() if known != rest
        }
        self.lacks = {**others, rest: why} if why else others

    async def _ready(self, child: Child, upstream: Upstream) -> None:
        """Return when /health says so.

        The server's own line says when asking is worth while, so that nothing is
        polled for the 20 s of a start. Should the line never come (it depends on
        the server's log level), once a second will do.
        """
        pause_s = 1.0
        while not await upstream.healthy():
            if child.ended:
                raise self._fit.failed(self.name, child.tail, child.status or 0)
            if not self._announced.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._announced.wait()
                        pause_s = 0.01
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)

    # What the child tells us.

    def _hear(self, line: str) -> None:
        if READY_LINE in line:
            self._announced.set()
        elif self._upstream is not None and shows_progress(line):
            self._upstream.heard()

    def _end(self) -> None:
        self._announced.set()  # whoever waits for it has waited long enough
        if self._facts is not None and self._child is not None:
            self._facts = None
            self._death = self._how_it_ended(self._child)
            self._dead.set()

    async def _blame(self, why: str) -> DriverError:
        """Say whose end a broken connection was: the process's, or only the connection's."""
        child = self._child
        if child is None:
            return Died(self.name, *self._death)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICE_S):
                await child.wait()
        if child.ended:
            return Died(self.name, *self._how_it_ended(child))
        return Unresponsive(self.name, why)

    async def _abandon(self) -> None:
        """End what is left of a life. Safe in any state."""
        child, upstream, watch = self._child, self._upstream, self._watch
        self._child = self._upstream = self._watch = None
        self._announced.clear()
        if watch is not None:
            watch.close()
        try:
            if child is not None:
                await child.kill()
        finally:
            if self._park is not None:
                await self._park.forget()
            if upstream is not None:
                await upstream.close()

    def _how_it_ended(self, child: Child) -> tuple[int, str]:
        words = last_words(child.tail)
        if self._watch is not None and self._watch.ended:
            words = f"its {self._watch.ended} has ended: {words}"
        return child.status or 0, words
