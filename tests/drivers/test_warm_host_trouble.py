"""VllmEngine where a warm host cannot be had, is not what it was, or comes to grief."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from drivers import vllm_host, warm_host
from drivers.host_process import HostProcess, NoHost
from drivers.vllm import VllmEngine
from tests.contracts.engine import answer
from tests.drivers.conftest import children
from tests.drivers.parts import host_of, make_engine, started
from tests.fakes.python_with_vllm import python_that_serves


def engine_of(place: Path, version: str) -> VllmEngine:
    """An engine of a vLLM that is installed there; its command is not replaced."""
    return VllmEngine(
        python=python_that_serves(place, version),
        model=str(place),
        served_name="stand-in",
        runtime_dir=place / "run",
        cache_dir=place / "cache",
        device="cpu",
        warm_host=True,
    )


DIES = """
import os, runpy, signal, socket, sys
sys.path.insert(0, {beside!r})

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def receive(*args):
    received(*args)
    die()

received = socket.recv_fds
{how}
runpy.run_path({host!r}, run_name="__main__")
"""


UNFIT = """
import socket, sys
socket.socket(fileno=int(sys.argv[2])).send(b'{"unfit": "for good reason"}')
"""


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("raise SystemExit('no such library')", "ended with 1: no such library"),
        ("import time; time.sleep(60)", "not ready within 1 s"),
        (UNFIT, "for good reason"),
    ],
)
async def test_no_host(place: Path, monkeypatch: pytest.MonkeyPatch, host: str, why: str) -> None:
    """A host that cannot be had is no obstacle: a plain start, and words that say why."""
    program = place / "host.py"
    program.write_text(host)
    monkeypatch.setattr(vllm_host, "__file__", str(program))
    monkeypatch.setattr(warm_host, "READY_PATIENCE_S", 1.0)
    async with started(make_engine(place, warm_host=True)) as engine:
        assert await answer(engine)
        assert why in engine.lacks["host"]

        program.write_text("raise SystemExit('asked again')")
        await engine.stop()
        await engine.start()

        assert why in engine.lacks["host"]


async def test_a_host_killed_before_it_is_ready(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory may have been short for a moment: it is tried once more, and then no more."""
    program = place / "host.py"
    program.write_text("import os; os.kill(os.getpid(), 9)")
    host = vllm_host.__file__
    monkeypatch.setattr(vllm_host, "__file__", str(program))
    well, ill = make_engine(place, warm_host=True), make_engine(place, warm_host=True)
    async with started(well):
        assert "ended with -9" in well.lacks["host"]

        program.write_text(DIES.format(how="", host=host, beside=str(Path(host).parent)))
        await well.stop()
        await well.start()

        assert "host" not in well.lacks

    program.write_text("import os; os.kill(os.getpid(), 9)")
    async with started(ill):
        await ill.stop()
        await ill.start()
        program.write_text("raise SystemExit('asked again')")
        await ill.stop()
        await ill.start()

        assert "ended with -9" in ill.lacks["host"]


@pytest.mark.parametrize("lack", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_a_host_that_cannot_be_forked(
    place: Path, monkeypatch: pytest.MonkeyPatch, lack: int
) -> None:
    """Nothing is waited for: this start is plain, the next has a host."""
    monkeypatch.setattr(warm_host, "READY_PATIENCE_S", 1.0)
    loop = asyncio.get_running_loop()
    fork, lacks = loop.subprocess_exec, [lack]

    async def fork_or_fail(protocol: Any, *command: Any, **how: Any) -> Any:
        if vllm_host.__file__ in command and lacks:
            raise OSError(lacks.pop(), os.strerror(lack))
        return await fork(protocol, *command, **how)

    monkeypatch.setattr(loop, "subprocess_exec", fork_or_fail)
    async with started(make_engine(place, warm_host=True)) as engine:
        assert await answer(engine)
        assert engine.lacks["host"] == f"it cannot be started: {os.strerror(lack)}"

        await engine.stop()
        await engine.start()

        assert "host" not in engine.lacks


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
async def test_descriptors_that_do_not_suffice_for_a_host(spare: int) -> None:
    """It is said, and none of them is kept."""
    before = descriptors()
    free = [number for number in range(1000) if number not in before]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
    try:
        with pytest.raises(NoHost, match="cannot be started"):
            await HostProcess("host").start([sys.executable, "-c", ""], [], {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert descriptors() == before


def descriptors() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


async def test_another_vllm_another_host(place: Path) -> None:
    """After an upgrade in place, under a living host, the next server is of the new vLLM."""
    async with started(engine_of(place, "0.31.0")) as engine:
        first, host = await engine.start(), host_of(engine)
        await engine.stop()
        again = await engine.start()

        assert (first.version, again.version) == ("0.31.0", "0.31.0")
        assert "host" not in engine.lacks
        assert host_of(engine) == host

        python_that_serves(place, "0.32.0")

        assert await answer(engine)  # what runs is left alone

        await engine.stop()
        upgraded = await engine.start()

        assert upgraded.version == "0.32.0"
        assert engine._child is not None
        assert "this is vLLM 0.32.0" in engine._child.tail
        assert "host" not in engine.lacks
        assert host_of(engine) != host
        assert not host.is_running()


OWNER_OF_IMPORTS = """
import asyncio, sys
from pathlib import Path
from tests.drivers.parts import host_of
from tests.drivers.test_warm_host_trouble import engine_of

async def own():
    place = Path(sys.argv[1])
    engine = engine_of(place, "0.32.0")
    with (place / "site-packages/vllm/__init__.py").open("a") as module:
        module.write(f"open({str(place / 'importing')!r}, 'w'); import time; time.sleep(60)")
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.start())
        while not (place / "importing").exists():
            await asyncio.sleep(0.02)
        print(host_of(engine).pid, flush=True)

asyncio.run(own())
"""


def test_its_owner_killed_while_it_imports(place: Path) -> None:
    """A host that is not ready yet does not outlive its daemon either."""
    command = [sys.executable, "-c", OWNER_OF_IMPORTS, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        host = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    _, alive = psutil.wait_procs([host], timeout=10)

    assert alive == []


@pytest.mark.parametrize(
    "how",
    ["socket.recv_fds = receive", "os.pidfd_open = die", "socket.send_fds = die"],
    ids=["before the fork", "before it has a proof of it", "before it tells"],
)
async def test_a_host_that_dies_as_it_forks(
    place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever it has forked by then is ended; this start is plain, the next has another host."""
    program = place / "host.py"
    host = vllm_host.__file__
    program.write_text(DIES.format(how=how, host=host, beside=str(Path(host).parent)))
    monkeypatch.setattr(vllm_host, "__file__", str(program))
    engine = make_engine(place, warm_host=True)
    async with started(engine):
        assert await answer(engine)
        assert "it has ended" in engine.lacks["host"]
        assert len(children()) == 2  # guard and server

        program.write_text(DIES.format(how="", host=host, beside=str(Path(host).parent)))
        await engine.stop()
        await engine.start()

        assert "host" not in engine.lacks
        assert len(children()) == 3


async def test_a_frozen_host(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer is ended; this start is plain, the next has another host."""
    monkeypatch.setattr(warm_host, "FORK_PATIENCE_S", 0.3)
    async with started(make_engine(place, warm_host=True)) as engine:
        await engine.stop()
        host = host_of(engine)
        host.suspend()
        await engine.start()

        assert "did not answer" in engine.lacks["host"]
        assert not host.is_running()

        await engine.stop()
        await engine.start()

        assert "host" not in engine.lacks


# A module that opens what plays the GPU, and one that sees to it that it does.
OPENS = "import atexit\nleft_open = open({gpu!r})\n"
PLAYS = """
import os, sys
def on_gpu():
    files = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
    return {gpu!r} in map(os.path.realpath, files)
for name in ("__main__", "drivers.vllm_imports"):
    if hasattr(sys.modules.get(name), "on_gpu"):
        sys.modules[name].on_gpu = on_gpu
"""


def spoilt_by(place: Path, *modules: str) -> VllmEngine:
    """An engine whose vLLM opens the GPU in those modules as they are imported."""
    engine = engine_of(place, "0.32.0")
    packages, gpu = place / "site-packages", place / "gpu"
    gpu.touch()
    with (packages / "vllm/__init__.py").open("a") as package:
        package.write(PLAYS.format(gpu=str(gpu)))
    for module in modules:
        file = packages / f"{module.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(OPENS.format(gpu=str(gpu)))
    return engine


async def test_what_opens_the_gpu_is_left_out(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The host begins anew without it, twice here, and then has the rest."""
    caplog.set_level("DEBUG")
    engine = spoilt_by(place, "vllm.entrypoints.cli.serve", "vllm.v1.worker.cpu_worker")
    async with started(engine):
        assert await answer(engine)
        assert "host" not in engine.lacks

    said = " ".join(caplog.messages)

    assert "once more without vllm.entrypoints.cli.serve" in said
    assert "once more without vllm.v1.worker.cpu_worker" in said


async def test_no_host_that_has_opened_the_gpu(place: Path) -> None:
    """If it cannot be left out there is none, and who did it is named."""
    engine = spoilt_by(place, "opens", "vllm.v1.engine.async_llm")
    (place / "site-packages/vllm/v1/engine/core.py").write_text("import json, opens, atexit\n")
    async with started(engine):
        assert await answer(engine)
        assert engine.lacks["host"] == "importing vLLM has opened the GPU, in opens"


async def test_threads_are_no_host(place: Path) -> None:
    """What has threads is not forked: they would be missing."""
    (place / "sitecustomize.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    engine = make_engine(place, warm_host=True)
    engine._orders = replace(engine._orders, env={"PYTHONPATH": str(place)})
    async with started(engine):
        assert await answer(engine)
        assert "threads that forks would lack" in engine.lacks["host"]


async def test_a_start_cancelled_before_the_host_is_ready(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its imports go on, and the next start has it."""
    program = place / "host.py"
    program.write_text(
        f"import sys, time; time.sleep(0.5); sys.path.insert(0, '{Path.cwd()}')\n"
        "import socket, runpy; sys.path.insert(0, '')\n"
        f"runpy.run_path('{vllm_host.__file__}', run_name='__main__')\n"
    )
    monkeypatch.setattr(vllm_host, "__file__", str(program))
    async with started_later(make_engine(place, warm_host=True)) as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await engine.start()
        host = host_of(engine)

        assert children() == [host]

        await engine.start()

        assert host_of(engine) == host


@contextlib.asynccontextmanager
async def started_later(engine: VllmEngine) -> AsyncIterator[VllmEngine]:
    try:
        yield engine
    finally:
        await engine.dismiss()
