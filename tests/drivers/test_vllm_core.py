"""The news of a core's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from drivers.vllm_core import Watch, is_core

# pidfd_open(2) takes no thread but the first of a process.
THREAD = (
    "import threading, time; "
    "threading.Thread(target=lambda: print(threading.get_native_id(), flush=True)"
    " or time.sleep(60)).start()"
)


@pytest.fixture
def core() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the title of one."""
    process = subprocess.Popen(["VLLM::EngineCore", "60"], executable="/bin/sleep")
    while not is_core(process.pid):  # the kernel tells its arguments a little later
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


async def test_the_end_of_a_core_is_told(core: subprocess.Popen[bytes]) -> None:
    """Once, and whose it was."""
    told = asyncio.Event()
    watch = Watch([core.pid], told.set)
    core.kill()
    async with asyncio.timeout(10):
        await told.wait()

    assert watch.ended == "VLLM::EngineCore"

    watch.close()


async def test_a_core_that_cannot_be_watched(caplog: pytest.LogCaptureFixture) -> None:
    """vLLM tells of its end itself, later: an engine that serves is not ended for that."""
    process = subprocess.Popen(
        ["VLLM::EngineCore", "-c", THREAD], executable=sys.executable, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process:
        thread = int(process.stdout.readline())
        watch = Watch([thread], lambda: None)
        watch.close()
        process.kill()

    assert f"process {thread} is not watched" in caplog.text
