"""VllmEngine with a warm host that forks stand-ins: real hosts, guards and servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from drivers import vllm_host, warm_host
from drivers.errors import Died, Unresponsive
from drivers.procfs import find_stat, shared_memory
from drivers.protocols import Engine
from drivers.vllm import VllmEngine
from tests.contracts.engine import CHAT, EngineContract, answer, stream_body
from tests.drivers.conftest import children
from tests.drivers.parts import (
    host_of,
    make_engine,
    not_its_host,
    requests_running,
    shared_memory_of,
    socket_of,
    started,
)


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine() -> AsyncIterator[VllmEngine]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = make_engine(Path(place), "--start-s", "0.1", warm_host=True)
        yield engine
        await engine.dismiss()


@pytest.mark.asyncio(loop_scope="class")
class TestVllmFromAWarmHost(EngineContract):
    """A server that was forked keeps the promises of one that was started."""

    @pytest.fixture
    def engine(self, shared_engine: VllmEngine) -> Engine:
        return shared_engine

    async def running(self, engine: Engine) -> int:
        return await requests_running(socket_of(await engine.start()))

    async def kill(self, engine: Engine) -> None:
        psutil.Process((await engine.start()).pids[0]).kill()

    async def children(self, engine: Engine) -> int:
        assert isinstance(engine, VllmEngine)
        return len(not_its_host(engine))

    async def begun(self, engine: Engine) -> None:
        while not await self.children(engine):  # noqa: ASYNC110 - nothing tells of a process
            await asyncio.sleep(0.01)


async def test_one_host_for_many_servers(place: Path) -> None:
    """stop() leaves the host, the next server is another fork of it, dismiss() ends it."""
    async with started(make_engine(place, warm_host=True)) as engine:
        first, host = await engine.start(), host_of(engine)

        assert psutil.Process(first.pids[0]).parents()[1] == host

        await engine.stop()

        assert children() == [host]

        second = await engine.start()

        assert host_of(engine) == host
        assert second.pids != first.pids
        assert "host" not in engine.lacks

    assert children() == []
    assert list((place / "run").iterdir()) == []


async def test_a_server_is_as_if_it_had_been_started(place: Path) -> None:
    """It has no descriptor, signal, group or folder of the host's or the guard's."""
    async with started(make_engine(place)) as plain:
        expected = looks((await plain.start()).pids[0])
    async with started(make_engine(place, warm_host=True)) as forked:
        pid = (await forked.start()).pids[0]

        assert looks(pid) == expected
        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == psutil.Process(pid).ppid()


def looks(pid: int) -> dict[str, object]:
    """What a process has from its parents."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    files = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return {
        "signals": [facts[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "files": sorted(file.partition("[")[0] for file in files),
        "folder": Path(f"/proc/{pid}/cwd").readlink(),
    }


async def test_dies_while_loading(place: Path) -> None:
    """The words of a forked server that fails are its own."""
    async with started(make_engine(place, warm_host=True)) as engine:
        await engine.stop()
        engine._orders = replace(engine._orders, args=("--die-at-90",))
        with pytest.raises(Died, match="exited with 1: ValueError: too little memory"):
            await engine.start()

        assert not_its_host(engine) == []


async def test_a_killed_server_leaves_the_host(place: Path) -> None:
    """And nothing else, whatever it had begun."""
    engine = make_engine(place, "--grandchild", "--shared-memory", warm_host=True)
    async with started(engine):
        facts, host = await engine.start(), host_of(engine)
        made = shared_memory_of(facts.pids)

        assert made

        psutil.Process(facts.pids[0]).kill()
        with pytest.raises(Died):
            await engine.died()

        assert children() == [host]
        assert not made & shared_memory()


async def test_a_killed_guard_leaves_the_host(place: Path) -> None:
    """The kernel ends its server, the daemon the rest; that is a death."""
    engine = make_engine(place, "--grandchild", "--shared-memory", warm_host=True)
    async with started(engine):
        facts, host = await engine.start(), host_of(engine)
        made = shared_memory_of(facts.pids)
        guard = psutil.Process(facts.pids[0]).parent()

        assert guard is not None
        assert guard.parent() == host

        guard.kill()
        async with asyncio.timeout(10):
            with pytest.raises(Died):
                await engine.died()

        assert all(map(has_ended, facts.pids))
        assert not made & shared_memory()
        assert await engine.start()
        assert host_of(engine) == host


async def test_a_server_outlives_its_host(place: Path) -> None:
    """Killing the host breaks nothing; the next start makes another."""
    async with started(make_engine(place, "--grandchild", warm_host=True)) as engine:
        facts, host = await engine.start(), host_of(engine)
        guard = psutil.Process(facts.pids[0]).parent()
        host.kill()
        async with asyncio.timeout(1):
            async with engine.request(CHAT, stream_body("endless"), stream=True) as reply:
                async for _ in reply.chunks:
                    break

        assert await answer(engine)

        await engine.stop()

        assert guard is not None
        assert all(map(has_ended, (guard.pid, *facts.pids)))

        await engine.start()

        assert host_of(engine) != host
        assert "host" not in engine.lacks


def has_ended(pid: int) -> bool:
    """Gone, or waiting for an init that does not notice."""
    stat = find_stat(pid)
    return stat is None or stat.state == "Z"


OWNER = """
import asyncio, json, sys
from pathlib import Path
from tests.drivers.parts import host_of, make_engine

async def own():
    engine = make_engine(Path(sys.argv[1]), "--grandchild", "--shared-memory", warm_host=True)
    facts = await engine.start()
    print(json.dumps([host_of(engine).pid, *facts.pids]), flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


@pytest.mark.parametrize("killed", [[], ["host"], ["guard"], ["host", "guard", "server"]])
async def test_its_owner_killed(place: Path, killed: list[str]) -> None:
    """SIGKILL of the owner, alone or not, leaves nothing, at the latest at the next start."""
    with subprocess.Popen([sys.executable, "-c", OWNER, place], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        host, server, *rest = map(psutil.Process, json.loads(owner.stdout.readline()))
        guard = server.parent()
        assert guard is not None
        made = shared_memory_of([server.pid])
        family = [host, guard, server, *rest]
        owner.send_signal(signal.SIGSTOP)  # so that it cannot react
        named = {"host": host, "guard": guard, "server": server}
        for name in killed:
            named[name].kill()
        owner.kill()
    if "guard" in killed:
        async with started(make_engine(place, warm_host=True)):
            pass
    _, alive = psutil.wait_procs(family, timeout=10)

    assert alive == []
    assert not made & shared_memory()
    assert list((place / "run").iterdir()) == []


# Without a host.

UNFIT = """
import socket, sys
socket.socket(fileno=int(sys.argv[2])).send(b'{"unfit": "for good reason"}')
"""


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("raise SystemExit('no such library')", "ended with 1: no such library"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
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


async def test_another_vllm_another_host(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade the next start has a host of what is there now."""
    async with started(make_engine(place, warm_host=True)) as engine:
        host = host_of(engine)
        await engine.stop()
        monkeypatch.setattr("drivers.vllm.versions.stamp", lambda _: "another")
        await engine.start()

        assert host_of(engine) != host
        assert not host.is_running()


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
        assert "1 threads" in engine.lacks["host"]


async def test_forks_that_fail_alone_are_given_up(place: Path) -> None:
    """Where only forked servers fail, no more are forked; one such failure is no proof."""
    engine = make_engine(place, warm_host=True, start_timeout_s=0.7)
    async with started(engine):
        for _ in range(warm_host.STRIKES):
            await engine.stop()
            engine._orders = replace(engine._orders, args=("--start-s", "60"))
            with pytest.raises(Unresponsive):
                await engine.start()
            engine._orders = replace(engine._orders, args=())
            await engine.start()  # plainly

            assert "a plain one did" in engine.lacks["host"]
        await engine.stop()
        await engine.start()

        assert "a plain one did" in engine.lacks["host"]
        assert len(children()) == 2  # guard and server


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
