"""VllmEngine with a warm host that forks stand-ins: real hosts, guards and servers."""

from __future__ import annotations

import asyncio
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

from drivers.errors import Died
from drivers.procfs import shared_memory
from drivers.vllm import VllmEngine
from tests.contracts.engine import CHAT, answer, stream_body
from tests.drivers.conftest import children
from tests.drivers.parts import (
    has_ended,
    host_of,
    make_engine,
    not_its_host,
    shared_memory_of,
    started,
)
from tests.drivers.vllm_contract import VllmContract


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def shared_engine() -> AsyncIterator[VllmEngine]:
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        engine = make_engine(Path(place), "--start-s", "0.1", warm_host=True)
        yield engine
        await engine.dismiss()


@pytest.mark.asyncio(loop_scope="class")
class TestVllmFromAWarmHost(VllmContract):
    """A server that was forked keeps the promises of one that was started."""


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
