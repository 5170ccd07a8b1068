from __future__ import annotations

import asyncio
import mmap
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import uvloop

from drivers.leftovers import sweep
from drivers.process import Child

LINGERING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()             # it left the group and the session, as a daemon would
    os.fork()
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
"""


class Run:
    """A child in a directory of its own, and the lines it has printed."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "run"
        self.directory.mkdir()
        self.lines: list[str] = []
        self.news = asyncio.Event()
        self.child = Child("test", on_line=self.hear, on_end=self.news.set)

    def hear(self, line: str) -> None:
        self.lines.append(line)
        self.news.set()

    async def start(self, code: str) -> Child:
        command = [sys.executable, "-S", "-c", code]
        await self.child.start(command, env=os.environ, directory=self.directory, grace_s=0.2)
        return self.child

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not happened():
                self.news.clear()
                await self.news.wait()

    async def lingering(self) -> list[psutil.Process]:
        """Start a program with two grandchildren outside its group; return them all."""
        await self.start(LINGERING + "time.sleep(600)")
        await self.until(lambda: len(self.lines) == 2)
        await self.child.note()
        return [psutil.Process(pid) for pid in (self.child.pid, *self.child.others)]

    @property
    def guard(self) -> psutil.Process:
        parent = psutil.Process(self.child.pid).parent()
        assert parent is not None
        return parent


@pytest.fixture
def run(place: Path) -> Run:
    return Run(place)


def gone(family: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


async def test_status_and_output(run: Run) -> None:
    """The exit status and all output arrive, lines of both streams in order."""
    child = await run.start("import sys; print('a'); print('é', file=sys.stderr); sys.exit(3)")

    assert await child.wait() == 3
    assert sorted(run.lines) == ["a", "é"]
    assert list(child.tail) == run.lines
    assert not run.directory.exists()


async def test_ends_by_signal(run: Run) -> None:
    """A child ended by a signal has that signal's number, negative."""
    child = await run.start("import os; os.kill(os.getpid(), 11)")

    assert await child.wait() == -11


async def test_command_that_cannot_run(run: Run) -> None:
    """A missing program ends with 127 and says which."""
    await run.child.start(["/nonexistent"], env={}, directory=run.directory)

    assert await run.child.wait() == 127
    assert "/nonexistent" in run.lines[0]


async def test_a_flood_is_drained_and_bounded(run: Run) -> None:
    """Megabytes of output, some in one line, neither block it nor stay in memory."""
    child = await run.start(
        "import sys\nfor _ in range(200): print('x' * 1000)\n"
        "sys.stdout.write('y' * 3_000_000 + '\\rdone\\n')"
    )

    assert await child.wait() == 0
    assert child.tail[-1] == "done"
    assert sum(map(len, child.tail)) < 2_000_000


async def test_kill_ends_all_generations(run: Run) -> None:
    """kill() ends whoever ignores SIGTERM, left the group, or lost its parent."""
    family = await run.lingering()
    await run.child.kill()

    assert len(family) == 3
    assert gone(family)
    assert run.child.status == -signal.SIGKILL


async def test_grandchildren_do_not_outlive_it(run: Run) -> None:
    """When the program ends by itself, what it leaves behind is ended too."""
    child = await run.start(LINGERING + "time.sleep(0.2); sys.exit(5)")

    assert await child.wait() == 5
    assert len(run.lines) == 2
    assert not any(psutil.pid_exists(int(line)) for line in run.lines)


async def test_guard_killed(run: Run) -> None:
    """After SIGKILL of the guard the family is found and ended all the same."""
    family = await run.lingering()
    run.guard.kill()
    async with asyncio.timeout(10):
        status = await run.child.wait()

    assert status == -9
    assert gone(family)
    assert not run.directory.exists()


async def test_guard_frozen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen guard does not obey; kill() ends it and the family without it."""
    monkeypatch.setattr("drivers.process.KILL_PATIENCE_S", 0.2)
    family = await run.lingering()
    guard = run.guard
    guard.suspend()
    async with asyncio.timeout(10):
        await run.child.kill()

    assert gone([*family, guard])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_guard_is_told_to_end(run: Run, number: signal.Signals) -> None:
    """A signal to the guard asks the program to end, and kills it after the grace time."""
    family = await run.lingering()
    run.guard.send_signal(number)
    async with asyncio.timeout(10):
        await run.child.wait()

    assert gone(family)


async def test_guard_passes_the_request_to_end_on(run: Run) -> None:
    """Within the grace time the program may end in its own way."""
    child = await run.start(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    await run.until(lambda: run.lines)
    run.guard.terminate()

    assert await child.wait() == 7


async def test_cancelled_start_leaves_nothing(run: Run) -> None:
    """Cancelling start() at any moment ends what was started (nobody_left looks)."""
    for delay_s in (0.0, 0.01, 0.05, 0.1):
        again = Run(run.directory)
        starting = asyncio.ensure_future(again.start("import time; time.sleep(600)"))
        await asyncio.wait({starting}, timeout=delay_s)
        starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            await again.child.kill()

        assert not again.directory.exists() or not any(again.directory.iterdir())
        again.directory.rmdir() if again.directory.exists() else None


async def test_shared_memory_is_removed(run: Run) -> None:
    """What a killed program has left loses its name; what others use or had before stays."""
    code = (
        "from multiprocessing import shared_memory as m, resource_tracker as t\n"
        "s = m.SharedMemory(create=True, size=64)\n"
        "t.unregister(s._name, 'shared_memory')\n"
        "print(s.name, flush=True)\nimport time; time.sleep(600)"
    )
    earlier, used = (Path(f"/dev/shm/psm_{name}_{os.getpid()}") for name in ("earlier", "used"))
    earlier.touch()
    try:
        child = await run.start(code)
        await run.until(lambda: run.lines)
        with used.open("w"):
            psutil.Process(child.pid).kill()
            await child.wait()

        assert not (Path("/dev/shm") / run.lines[0]).exists()
        assert earlier.exists()
        assert used.exists()
    finally:
        earlier.unlink()
        used.unlink()


async def test_a_mapped_file_of_any_name(run: Run, place: Path) -> None:
    """What somebody has mapped need not be UTF-8: shared memory is told apart all the same."""
    odd = place / os.fsdecode(b"\xfc\r.mp3")
    odd.write_bytes(b"x")
    left = Path(f"/dev/shm/psm_left_{os.getpid()}")
    with odd.open("rb") as file, mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ):
        await run.start(
            f"open({str(left)!r}, 'w').close()\n"
            "print('up', flush=True)\nimport time; time.sleep(600)"
        )
        await run.until(lambda: run.lines)
        async with asyncio.timeout(10):
            await run.child.kill()

    assert not left.exists()
    assert run.child.status == -signal.SIGKILL


GUARD_IN_TROUBLE = """
import os, sys
from functools import partial
from pathlib import Path
from drivers import guard

def fail(_):
    raise ValueError("no such inode")

guard.remove_abandoned_shared_memory = fail
become = partial(guard.execute, ["true"])
guard.Guard(Path(sys.argv[1]), 1.0, "", become, os.getppid()).run()
"""


async def test_a_guard_whose_last_look_fails(run: Run) -> None:
    """It removes the directory and reports the status all the same, and says what was wrong."""
    command = [sys.executable, "-c", GUARD_IN_TROUBLE, str(run.directory)]
    loop = asyncio.get_running_loop()
    await run.child.follow(run.directory, lambda: loop.subprocess_exec(lambda: run.child, *command))

    assert await run.child.wait() == 0
    assert "no such inode" in run.child.tail[-1]
    assert not run.directory.exists()


async def test_a_sweep_that_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and nobody waits for ever."""

    def fail(_: Path) -> list[int]:
        raise OSError("too many open files")

    monkeypatch.setattr("drivers.process.sweep", fail)
    child = await run.start("import time; time.sleep(600)")
    async with asyncio.timeout(10):
        await child.kill()

    assert child.ended
    assert run.news.is_set()
    assert "too many open files" in caplog.text


async def test_no_thread_for_a_sweep(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Where no thread can be had the end comes too."""
    child = await run.start("import time; time.sleep(600)")
    executor = ThreadPoolExecutor()
    executor.shutdown()
    asyncio.get_running_loop().set_default_executor(executor)
    async with asyncio.timeout(10):
        await child.kill()

    assert child.status == -signal.SIGKILL
    assert "could not be swept" in caplog.text


def test_also_on_uvloop(place: Path) -> None:
    """The daemon's own loop gives the same calls in the same order."""

    async def live() -> None:
        run = Run(place)
        family = await run.lingering()
        await run.child.kill()

        assert gone(family)
        assert run.child.status == -9

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


async def test_sweep_of_nothing(place: Path) -> None:
    """Sweeping a directory that is not there, or has no record, removes it."""
    assert sweep(place / "nowhere") == []

    (place / "run").mkdir()
    (place / "run/socket").touch()

    assert sweep(place / "run") == []
    assert not (place / "run").exists()
