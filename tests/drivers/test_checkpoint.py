"""drivers.checkpoint against a libcuda that keeps the documented states: every half-way house."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from drivers import checkpoint
from drivers.checkpoint import command
from drivers.checkpointer import Direct, judge, why_not
from drivers.errors import Died, DriverError, NotPermitted, NotSupported, Refused, Unresponsive
from tests.drivers.conftest import children
from tests.fakes.cuda import FakeCuda, sleeping

NOBODY = 65534

# As that user, but with an interpreter that may be in somebody's home.
AS_NOBODY = f"""
import os, sys
sys.path.insert(0, {str(Path(checkpoint.__file__).parent)!r})
import checkpoint
os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)
checkpoint.ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is ours again
sys.exit(checkpoint.main(*sys.argv[1:]))
"""


@pytest.fixture
def held(cuda: FakeCuda) -> Iterator[tuple[int, int]]:
    """Pid and pidfd of one process."""
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
        yield process.pid, pidfd
        os.close(pidfd)


@pytest_asyncio.fixture
async def direct(cuda: FakeCuda) -> AsyncIterator[Direct]:
    """Whose process waits for the way back, if there is one."""
    made = Direct(env=cuda.env, stays=lambda: True)
    yield made
    await made.forget()


def report(
    cuda: FakeCuda, verb: str, pidfds: Sequence[int], program: Sequence[str] = ()
) -> dict[str, Any]:
    """The last line of one run."""
    done = subprocess.run(
        [*program, verb, "10", *map(str, pidfds)] if program else command(verb, pidfds, 10),
        pass_fds=pidfds,
        env=cuda.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd="/",
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said | {"status": done.returncode}


def test_round_trip(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """park is lock and checkpoint, unpark restore and unlock; each says how long it took."""
    pid, pidfd = held
    parked = report(cuda, "park", [pidfd])

    assert parked["states"] == ["checkpointed"]
    assert parked["error"] is None
    assert parked["took_s"].keys() == {"init", "lock", "checkpoint"}
    assert report(cuda, "state", [pidfd])["states"] == ["checkpointed"]
    assert report(cuda, "unpark", [pidfd])["states"] == ["running"]
    assert cuda.state(pid) == "running"
    assert cuda.calls == ["lock", "checkpoint", "restore", "unlock"]


def test_all_are_locked_before_one_is_checkpointed(cuda: FakeCuda) -> None:
    """Processes that wait for each other come to rest together."""
    with sleeping(2) as processes:
        pidfds = [os.pidfd_open(process.pid) for process in processes]
        report(cuda, "park", pidfds)
        for pidfd in pidfds:
            os.close(pidfd)

    assert cuda.calls == ["lock", "lock", "checkpoint", "checkpoint"]


@pytest.mark.parametrize(
    ("state", "verb", "calls"),
    [
        ("running", "unpark", []),
        ("locked", "unpark", ["unlock"]),
        ("checkpointed", "unpark", ["restore", "unlock"]),
        ("locked", "park", ["checkpoint"]),
        ("checkpointed", "park", []),
    ],
)
def test_from_half_way(
    cuda: FakeCuda, held: tuple[int, int], state: str, verb: str, calls: list[str]
) -> None:
    """Whoever left it locked or checkpointed, and whichever way it goes now, it arrives."""
    cuda.put(held[0], state)
    said = report(cuda, verb, [held[1]])

    assert said["states"] == ["checkpointed" if verb == "park" else "running"]
    assert cuda.calls == calls


@pytest.mark.parametrize(
    ("step", "calls"), [("lock", ["lock"]), ("checkpoint", ["lock", "checkpoint", "unlock"])]
)
def test_a_park_that_fails_goes_back(
    cuda: FakeCuda, held: tuple[int, int], step: str, calls: list[str]
) -> None:
    """After a step that failed the process runs as before, and the report names the step."""
    cuda.plan("fail", step, 600)
    said = report(cuda, "park", [held[1]])

    assert said["states"] == ["running"]
    assert said["error"] == {"step": step, "code": 600, "word": "CUDA_ERROR_NOT_READY"}
    assert said["status"] == 1
    assert cuda.calls == calls


def test_going_back_brings_all_back(cuda: FakeCuda) -> None:
    """If the second process fails, the first, already checkpointed, is restored."""
    with sleeping(2) as (first, second):
        pidfds = [os.pidfd_open(first.pid), os.pidfd_open(second.pid)]
        cuda.put(second.pid, "failed")
        cuda.put(first.pid, "checkpointed")
        assert report(cuda, "park", pidfds)["states"] == ["checkpointed", "failed"]

        cuda.put(second.pid, "locked")
        cuda.plan("fail", "checkpoint", 2)
        said = report(cuda, "park", pidfds)
        for pidfd in pidfds:
            os.close(pidfd)

    assert said["states"] == ["running", "running"]


def test_a_park_that_cannot_go_back(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """If unlocking fails too, the report says that it is locked, and the first failure."""
    cuda.plan("fail", "checkpoint", 2)
    cuda.plan("fail", "unlock", 999)
    said = report(cuda, "park", [held[1]])

    assert said["states"] == ["locked"]
    assert said["error"]["step"] == "checkpoint"


def test_restore_is_tried_once(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """One that ran out of memory leaves it checkpointed, and says so."""
    cuda.put(held[0], "checkpointed")
    cuda.plan("fail", "restore", 2)
    said = report(cuda, "unpark", [held[1]])

    assert said["states"] == ["checkpointed"]
    assert said["error"]["word"] == "CUDA_ERROR_OUT_OF_MEMORY"
    assert cuda.calls == ["restore"]


@pytest.mark.parametrize("step", ["init", "lock", "checkpoint"])
async def test_a_step_that_hangs(cuda: FakeCuda, held: tuple[int, int], step: str) -> None:
    """The process ends itself in mid-call, and the caller learns where."""
    cuda.plan("hang", step)
    async with asyncio.timeout(8):
        with pytest.raises(Unresponsive, match=f"without a report in {step}: status -14"):
            await Direct(limit_s=0.5, env=cuda.env).move("park", [held[1]])


async def test_killed_in_mid_call(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """Whoever kills it, the caller is told that the state is unknown; a look shows it."""
    pid, pidfd = held
    cuda.plan("hang", "checkpoint")
    process = subprocess.Popen(
        command("park", [pidfd], 30),
        pass_fds=[pidfd],
        env=cuda.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = b"".join(iter(process.stdout.readline, b'{"doing": "checkpoint"}\n'))
    while cuda.state(pid) != "checkpointing":
        pass
    process.kill()
    process.communicate()

    assert json.loads(said.splitlines()[-1]) == {"doing": "lock"}
    with pytest.raises(Unresponsive, match="without a report in lock"):
        judge("park", said, (-9, ""))
    cuda.heal()
    assert report(cuda, "state", [pidfd])["states"] == ["checkpointing"]
    with pytest.raises(Unresponsive, match="now checkpointing"):
        await Direct(env=cuda.env).move("unpark", [pidfd])


def test_a_process_that_has_ended(cuda: FakeCuda) -> None:
    """Its pid is never used again, though another process may have it by now."""
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
    said = report(cuda, "park", [pidfd])
    os.close(pidfd)

    assert said["states"] == ["gone"]
    assert not said["touched"]
    assert cuda.calls == []


async def test_a_target_that_crashes(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """A lock that kills its target is a death."""
    cuda.plan("kill", "lock")
    with pytest.raises(Died, match="lock: CUDA_ERROR_OPERATING_SYSTEM"):
        await Direct(env=cuda.env).move("park", [held[1]])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_somebody_elses(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """Who may not touch a process is told so, and nothing has happened to it."""
    said = report(cuda, "park", [held[1]], [sys.executable, "-I", "-S", "-c", AS_NOBODY])

    assert said["error"]["word"] == "CUDA_ERROR_OPERATING_SYSTEM"
    assert not said["touched"]
    with pytest.raises(NotPermitted, match="wattnap-power"):
        judge("park", json.dumps(said).encode())


@pytest.mark.parametrize(
    ("plan", "raised"),
    [
        ((("fail", "init", 100),), Refused),
        ((("fail", "lock", 801),), NotSupported),
        ((("fail", "lock", 800),), NotPermitted),
        ((("fail", "checkpoint", 2),), Refused),
        ((("fail", "checkpoint", 2), ("fail", "unlock", 999)), Unresponsive),
        ((("fail", "state", 304),), NotPermitted),
        ((("kill", "checkpoint", 1),), Died),
    ],
)
async def test_what_is_raised(
    cuda: FakeCuda,
    held: tuple[int, int],
    plan: Sequence[tuple[str, str, int]],
    raised: type[DriverError],
) -> None:
    """The type says what the process is like now."""
    for how, step, code in plan:
        cuda.plan(how, step, code)
    with pytest.raises(raised):
        await Direct(env=cuda.env).move("park", [held[1]])
    if raised not in {Unresponsive, Died}:
        assert cuda.state(held[0]) == "running"


async def test_an_unpark_that_fails_is_unknown(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """There is no way back from half-way up, whatever the driver says."""
    cuda.put(held[0], "checkpointed")
    cuda.plan("fail", "restore", 800)
    with pytest.raises(Unresponsive, match="now checkpointed"):
        await Direct(env=cuda.env).move("unpark", [held[1]])


async def gone(movers: Sequence[psutil.Process]) -> bool:
    """All of them, within a second."""
    _, left = await asyncio.to_thread(psutil.wait_procs, movers, timeout=1)
    return not left


def movers() -> list[psutil.Process]:
    return [each for each in children() if "checkpoint.py" in " ".join(each.cmdline())]


async def test_kept_for_a_quick_return(
    cuda: FakeCuda, held: tuple[int, int], direct: Direct
) -> None:
    """Where the driver stays loaded the process waits, CUDA open, for the way back."""
    await direct.move("park", [held[1]])
    waiting = movers()

    assert len(waiting) == 1
    await direct.move("unpark", [held[1]])
    assert cuda.state(held[0]) == "running"
    assert cuda.count("init") == 1
    assert await gone(waiting)


@pytest.mark.parametrize("how", ["killed", "others", "broken"])
async def test_kept_for_nothing(
    cuda: FakeCuda, held: tuple[int, int], direct: Direct, how: str
) -> None:
    """One that is gone, or was kept for other processes, is replaced; a failure is told."""
    await direct.move("park", [held[1]])
    waiting = movers()
    another = os.dup(held[1])
    try:
        if how == "killed":
            waiting[0].kill()
            await asyncio.sleep(0.1)
        if how == "broken":
            cuda.plan("kill", "restore")
            with pytest.raises(Died):
                await direct.move("unpark", [held[1]])
        else:
            await direct.move("unpark", [another if how == "others" else held[1]])
            assert cuda.state(held[0]) == "running"
            assert cuda.count("init") == 2
    finally:
        os.close(another)
    assert await gone(waiting)


async def test_nothing_is_kept_for_what_has_ended(held: tuple[int, int], direct: Direct) -> None:
    """forget() ends the process that waits; so does the end of whoever started it."""
    await direct.move("park", [held[1]])
    waiting = movers()
    await direct.forget()

    assert await gone(waiting)


async def test_no_library(held: tuple[int, int]) -> None:
    """Without a libcuda it is NotSupported, and says which file is missing."""
    with pytest.raises(NotSupported, match=r"libcuda\.so\.1"):
        await Direct(env={"LD_LIBRARY_PATH": "/nonexistent"}).move("park", [held[1]])


async def test_cancelling_leaves_no_process(cuda: FakeCuda, held: tuple[int, int]) -> None:
    """Who gives up waiting leaves nobody behind in the driver."""
    cuda.plan("hang", "lock")
    task = asyncio.ensure_future(Direct(env=cuda.env).move("park", [held[1]]))
    while not cuda.calls:  # noqa: ASYNC110 - a file says it
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("machine", "version", "why"),
    [
        ("aarch64", "580.159.04", "x86_64"),
        ("x86_64", "", "no NVIDIA driver"),
        ("x86_64", "550.54.15", "needs driver 570"),
        ("x86_64", "570.86.10", ""),
    ],
)
def test_why_not(tmp_path: Path, machine: str, version: str, why: str) -> None:
    """Where it cannot work it is not offered, and the reason is for people."""
    if version:
        file = tmp_path / "proc/driver/nvidia/version"
        file.parent.mkdir(parents=True)
        file.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Release\n")

    assert why in why_not(tmp_path, machine)
    assert bool(why) == bool(why_not(tmp_path, machine))
