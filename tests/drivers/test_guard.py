"""The guard on real processes: whoever is killed, nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from drivers.guard import RECORD
from drivers.leftovers import InUse, sweep

# Ignores SIGTERM; two grandchildren in sessions of their own, one of them with
# no mark of where it belongs but its parentage.
FAMILY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os.chdir("/")
    time.sleep(600)
time.sleep(0.2)
print("up", flush=True)
time.sleep(600)
"""


@dataclass
class Owned:
    """A stand-in daemon, and the processes below it."""

    daemon: subprocess.Popen[str]
    directory: Path
    guard: psutil.Process
    engine: psutil.Process
    family: list[psutil.Process]

    def left(self, within_s: float = 10.0) -> list[psutil.Process]:
        """Who of guard and family has not ended after a while."""
        return [p for p in [self.guard, *self.family] if not has_ended(p.pid, within_s)]


def has_ended(pid: int, within_s: float) -> bool:
    """Wait for any process, zombies counting as ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], within_s)[0])
    finally:
        os.close(fd)


def begin(place: Path, *flags: str) -> Owned:
    directory = place / "run"
    directory.mkdir()
    command = [sys.executable, "-S", "-u", "-c", FAMILY]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.owner", directory, *flags, *command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert daemon.stdout is not None
    guard, engine, *others = map(psutil.Process, json.loads(daemon.stdout.readline()))
    assert len(others) == 2
    return Owned(daemon, directory, guard, engine, [engine, *others])


@pytest.fixture
def owned(place: Path, request: pytest.FixtureRequest) -> Iterator[Owned]:
    """A family under a guard under a daemon; nothing stays behind, even after a failure."""
    owned = begin(place, *getattr(request, "param", ()))
    yield owned
    owned.daemon.kill()
    owned.daemon.communicate()
    for process in (owned.guard, *owned.family):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_daemon_killed(owned: Owned) -> None:
    """SIGKILL of the daemon ends the engine, its children and the guard."""
    owned.daemon.kill()

    assert owned.left() == []
    assert not owned.directory.exists()


def test_terminal_interrupts_the_daemon_only(owned: Owned) -> None:
    """Ctrl-C reaches the daemon's process group; guard and engine are not in it."""
    foreground = os.getpgid(owned.daemon.pid)

    assert os.getsid(owned.guard.pid) == owned.guard.pid
    assert all(os.getpgid(p.pid) != foreground for p in [owned.guard, *owned.family])


@pytest.mark.parametrize("owned", [["--stop"]], indirect=True)
def test_two_sigterms_to_the_daemon(owned: Owned) -> None:
    """A daemon that drains on the first SIGTERM and kills on the second leaves nothing."""
    assert owned.daemon.stdout is not None
    owned.daemon.terminate()

    assert json.loads(owned.daemon.stdout.readline()) == "draining"
    assert owned.engine.is_running()

    owned.daemon.terminate()

    assert owned.left() == []
    assert owned.daemon.wait() == 0


def test_guard_killed_daemon_alive(owned: Owned) -> None:
    """SIGKILL of the guard: the daemon ends the rest."""
    owned.guard.kill()

    assert owned.left() == []


def test_both_killed_then_swept(owned: Owned) -> None:
    """SIGKILL of daemon and guard at once: the next daemon's sweep ends the rest."""
    os.kill(owned.daemon.pid, signal.SIGSTOP)  # so that it cannot react to the guard's end
    owned.guard.kill()
    owned.daemon.kill()
    owned.daemon.wait()

    assert owned.engine not in owned.left(0.3)

    assert sweep(owned.directory) == []
    assert owned.left() == []
    assert not owned.directory.exists()


def test_frozen_guard_is_swept(owned: Owned) -> None:
    """A guard that was frozen when its daemon died is ended by the next one's sweep."""
    owned.guard.suspend()
    owned.daemon.kill()
    owned.daemon.wait()

    assert sweep(owned.directory) == []
    assert owned.left() == []


def test_frozen_guard_thaws(owned: Owned) -> None:
    """Or does its work when it thaws."""
    owned.guard.suspend()
    owned.daemon.kill()
    owned.daemon.wait()
    owned.guard.resume()

    assert owned.left() == []


def test_engine_killed(owned: Owned) -> None:
    """SIGKILL of the engine's leader ends its children and the guard."""
    owned.engine.kill()

    assert owned.left() == []


def test_living_daemon_is_not_robbed(owned: Owned) -> None:
    """A sweep of a directory in use touches nothing and says whose it is."""
    with pytest.raises(InUse, match=str(owned.daemon.pid)):
        sweep(owned.directory)

    assert len(owned.left(0.1)) == 4


def test_recycled_pids_are_spared(owned: Owned) -> None:
    """A process that only has a recorded pid, group or session is not ended."""
    record_file = owned.directory / RECORD
    record = json.loads(record_file.read_text())
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        start = psutil.Process(stranger.pid).create_time()
        record |= {
            "daemon": [record["daemon"][0], -1],  # gone, as after a reboot of it all
            "guard": [stranger.pid, 0],
            "group": stranger.pid,
            "members": [[stranger.pid, 1]],
        }
        elsewhere = owned.directory.parent / "other"
        elsewhere.mkdir()
        (elsewhere / RECORD).write_text(json.dumps(record))

        assert sweep(elsewhere) == []
        assert stranger.poll() is None
        assert psutil.Process(stranger.pid).create_time() == start

        stranger.kill()


def test_another_boot_has_no_leftovers(owned: Owned) -> None:
    """A record of another boot names nobody; the directory is removed."""
    record_file = owned.directory / RECORD
    record = json.loads(record_file.read_text())
    elsewhere = owned.directory.parent / "other"
    elsewhere.mkdir()
    (elsewhere / RECORD).write_text(json.dumps(record | {"boot": "another"}))

    assert sweep(elsewhere) == []
    assert not elsewhere.exists()
    assert len(owned.left(0.1)) == 4


FORKED = """
import os, sys, time
from pathlib import Path
from drivers import procfs
from drivers.guard import Guard
procfs.PROC, directory = Path(sys.argv[1]), Path(sys.argv[2])
for pid in (os.getpid(), *range(os.getpid() + 1, os.getpid() + 1000)):
    (procfs.PROC / str(pid)).symlink_to("/proc/self")
if os.fork() == 0:
    guard = Guard(directory, 0.0, "", become=lambda: time.sleep(600), daemon=os.getppid())
    guard.run()
    os._exit(0)
os.wait()
"""


def test_a_process_that_ends_while_it_looks_costs_no_page(tmp_path: Path) -> None:
    """Of the C library's texts, in a guard that a warm host forked: they are there already."""
    proc, directory = tmp_path / "proc", tmp_path / "engine"
    proc.mkdir()
    directory.mkdir()
    (proc / "sys").symlink_to("/proc/sys")
    command = [sys.executable, "-c", FORKED, str(proc), str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as forking:
        told = map(json.loads, forking.stdout or ())
        assert next(told)["report"] == "started"
        guard, engine = psutil.Process(forking.pid).children(recursive=True)
        try:
            assert (proc / str(engine.pid)).is_symlink()  # or it had missed one at once
            before = libc_kb(guard, told, forking)
            (proc / "1").symlink_to(tmp_path / "has ended")
            after = libc_kb(guard, told, forking)
        finally:
            engine.kill()
            forking.communicate()

    assert before == after != []


def libc_kb(guard: psutil.Process, told: Iterator[Any], by: subprocess.Popen[str]) -> list[int]:
    """What it has at hand of the C library, by mapping, after a look at who is alive."""
    assert by.stdin is not None
    by.stdin.write("note\n")
    assert next(told)["report"] == "noted"
    return [one.rss >> 10 for one in guard.memory_maps(grouped=False) if "libc.so" in one.path]
