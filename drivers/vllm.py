"""A vLLM server as a child process, spoken to over a unix socket.

Everything of one engine's life is under one folder, `<runtime_dir>/engine`: the
socket, vLLM's own IPC sockets, its temporary files, the guard's record. The folder
is made by start() and gone after stop(), whoever was killed meanwhile.

Never decides whether to start, retries nothing, logs the server's output at DEBUG.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from drivers.errors import (
    Died,
    DriverError,
    NotPermitted,
    NotPresent,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.leftovers import InUse, sweep
from drivers.process import Child
from drivers.protocols import EngineFacts, Reply
from drivers.upstream import Upstream
from drivers.vllm_command import READY_LINE, environment, flags_for, last_words, shows_progress
from drivers.vllm_versions import Install, Row, Versions, row_for

SOCKET_PATH_BYTES = 107  # sun_path without its NUL (unix(7))
IPC_NAME_BYTES = 37  # vLLM's own sockets are called "/" and a UUID (utils/network_utils.py)
NOTICE_S = 2.0
"""How long a broken connection waits for the news that the engine has died."""

versions = Versions()


class VllmEngine:
    """One vLLM server.

    python           of the venv that has vLLM; need not be ours, nor of our version
    model            a folder, or a name that vLLM resolves
    runtime_dir      ours alone (0700), on a short path: it holds sockets
    cache_dir        vLLM's compile caches; kept between lives, worth seconds per start
    device           "cpu" or "cuda"
    args             further flags of `vllm serve`; paths in them are absolute
    env              further environment; wins over ours
    start_timeout_s  from the order until it can serve; a first start compiles
    stop_timeout_s   what running requests get to end when it is stopped
    stall_timeout_s  without any sign of life while requests wait: Unresponsive
    launch           instead of `python` and its vLLM: a command that takes the same
                     flags, and the vLLM version that it plays
    """

    levels: frozenset[int] = frozenset()

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
        max_model_len: int | None = None,
        kv_cache_bytes: int | None = None,
        max_num_seqs: int | None = None,
        enforce_eager: bool = False,
        start_timeout_s: float = 900.0,
        stop_timeout_s: float = 10.0,
        stall_timeout_s: float = 120.0,
        launch: tuple[tuple[str, ...], str] | None = None,
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ValueError(f"device must be cpu or cuda, not {device!r}")
        self.name = name
        self._python = python
        self._model = model
        self._served_name = served_name
        self._runtime_dir = runtime_dir
        self._home = runtime_dir / "engine"
        self._socket = self._home / "vllm.sock"
        self._cache_dir = cache_dir
        self._device = device
        self._args = args
        self._env = env or {}
        self._max_model_len = max_model_len
        self._kv_cache_bytes = kv_cache_bytes
        self._max_num_seqs = max_num_seqs
        self._enforce_eager = enforce_eager
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._launch = launch
        self._child: Child | None = None
        self._upstream: Upstream | None = None
        self._facts: EngineFacts | None = None  # not None: it serves
        self._announced = asyncio.Event()
        self._death: Died | None = None
        self._dead = asyncio.Event()

    async def start(self) -> EngineFacts:
        if self._facts is None:
            await self.stop()  # lets go of a life that ended by itself
            try:
                self._facts = await self._start()
            except BaseException:
                await self._abandon()
                raise
        return self._facts

    async def sleep(self, level: int) -> None:
        raise NotSupported(self.name, f"no sleep level {level}")

    async def wake(self) -> None:
        self._need_process()

    async def stop(self) -> None:
        """As promised; running requests get `stop_timeout_s` to end.

        Then it is killed, not asked. We are its only client, so that nothing runs in
        it; being asked it takes 4.7 s (0.32, CPU) against 0.2 s, and by its own
        default it kills its EngineCore at once too (v1/utils.py:605).
        """
        self._facts = None
        self._death = None
        self._dead.clear()
        try:
            if self._upstream is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._stop_timeout_s):
                        await self._upstream.idle()
        finally:
            await self._abandon()

    async def died(self) -> None:
        await self._dead.wait()
        raise self._death or Died(self.name, 0)

    def request(
        self, path: str, body: bytes, *, stream: bool
    ) -> AbstractAsyncContextManager[Reply]:
        return self._need_process().post(path, body, stream=stream)

    def _need_process(self) -> Upstream:
        if self._facts is None or self._upstream is None:
            raise self._death or Died(self.name, 0, "no process")
        return self._upstream

    # Starting.

    async def _start(self) -> EngineFacts:
        self._check()
        command, install = await self._command()
        row = row_for(install)
        await self._make_home()
        child = self._child = Child(self.name, on_line=self._hear, on_end=self._end)
        upstream = self._upstream = Upstream(
            self.name, self._socket, stall_timeout_s=self._stall_timeout_s, blame=self._blame
        )
        await upstream.open()
        flags = [*self._flags(row), *self._args]
        # Its working folder is not ours.
        model = str(Path(self._model).absolute()) if self._local_model else self._model
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await child.start(
                    [*command, model, *flags],
                    env=self._environment(),
                    directory=self._home,
                    grace_s=self._stop_timeout_s,
                )
                await self._ready(child, upstream)
                await child.note()
        except TimeoutError as error:
            late = f"not ready within {self._start_timeout_s:.0f} s: {last_words(child.tail)}"
            raise Unresponsive(self.name, late) from error
        except OSError as error:
            raise Refused(self.name, f"cannot start a process: {error.strerror}") from error
        if child.ended:
            raise self._death_of(child)
        pids = (child.pid, *child.others)
        return EngineFacts(kind="vllm", version=install.version, pids=pids, flags=tuple(flags))

    def _check(self) -> None:
        longest = len(os.fsencode(self._home / "ipc")) + IPC_NAME_BYTES
        if longest > SOCKET_PATH_BYTES:
            over = longest - SOCKET_PATH_BYTES
            raise NotSupported(
                self.name, f"runtime_dir {self._runtime_dir} is {over} bytes too long for sockets"
            )
        if Path(self._model).is_absolute() and not self._local_model:
            raise NotPresent(self.name, f"no model at {self._model}")

    @property
    def _local_model(self) -> bool:
        return Path(self._model).exists()

    async def _command(self) -> tuple[list[str], Install]:
        if self._launch is not None:
            command, version = self._launch
            return list(command), Install("vllm", version)
        install = await versions.find(self._python)
        return [str(self._python.absolute()), *row_for(install).serve], install

    async def _make_home(self) -> None:
        """Have an empty folder of our own, whatever an earlier life has left there."""
        try:
            self._runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._runtime_dir.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise NotPermitted(
                    self.name, f"runtime_dir {self._runtime_dir} must be ours alone (chmod 700)"
                )
            left = await asyncio.to_thread(sweep, self._home)
            if left:
                raise Unresponsive(self.name, f"an earlier engine's processes {left} do not end")
            for folder in (self._home, self._home / "ipc", self._home / "tmp"):
                folder.mkdir(mode=0o700)
            self._cache_dir.mkdir(parents=True, exist_ok=True)
        except InUse as error:
            raise Refused(self.name, str(error)) from error
        except OSError as error:
            raise NotPermitted(
                self.name, f"cannot write {error.filename}: {error.strerror}"
            ) from error

    def _flags(self, row: Row) -> list[str]:
        return flags_for(
            row,
            socket=self._socket,
            served_name=self._served_name,
            max_model_len=self._max_model_len,
            kv_cache_bytes=self._kv_cache_bytes,
            max_num_seqs=self._max_num_seqs,
            enforce_eager=self._enforce_eager,
            stop_timeout_s=self._stop_timeout_s,
        )

    def _environment(self) -> dict[str, str]:
        return environment(
            os.environ,
            python=self._python,
            home=self._home,
            cache_dir=self._cache_dir,
            device=self._device,
            local_model=self._local_model,
            start_timeout_s=self._start_timeout_s,
            extra=self._env,
        )

    async def _ready(self, child: Child, upstream: Upstream) -> None:
        """Return when /health says so.

        The server's own line says when asking is worth while, so that nothing is
        polled for the 20 s of a start. Should the line never come (it depends on
        the server's log level), once a second will do.
        """
        pause_s = 1.0
        while not await upstream.healthy():
            if child.ended:
                raise self._death_of(child)
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
            self._death = self._death_of(self._child)
            self._dead.set()

    def _death_of(self, child: Child) -> Died:
        return Died(self.name, child.status or 0, last_words(child.tail))

    async def _blame(self, why: str) -> DriverError:
        """Say whose end a broken connection was: the process's, or only the connection's."""
        child = self._child
        if child is None:
            return Died(self.name, 0, "stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICE_S):
                await child.wait()
        return self._death_of(child) if child.ended else Unresponsive(self.name, why)

    async def _abandon(self) -> None:
        """End what is left of a life. Safe in any state."""
        child, upstream = self._child, self._upstream
        self._child = self._upstream = None
        self._announced.clear()
        try:
            if child is not None:
                await child.kill()
                await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        finally:
            if upstream is not None:
                await upstream.close()
