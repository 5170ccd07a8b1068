"""A stand-in for the daemon: it owns one child under a guard, until it is killed.

Run as `python -m tests.fakes.owner DIRECTORY COMMAND…`. Once the child has printed
a line it prints one of its own, the pids of guard, child and descendants in JSON.
With --stop it answers SIGTERM as a daemon does that drains: at the first it prints
"draining", at the second it kills the child and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil

from drivers.process import Child


async def own(directory: Path, command: list[str], *, stop: bool) -> None:
    spoke = asyncio.Event()
    asked = asyncio.Semaphore(0)
    if stop:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.release)
    child = Child("owned", on_line=lambda _: spoke.set())
    await child.start(command, env=os.environ, directory=directory)
    await spoke.wait()
    await child.note()
    guard = psutil.Process(child.pid).ppid()
    say([guard, child.pid, *child.others])
    await asked.acquire()
    say("draining")
    await asked.acquire()
    await child.kill()


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    flags = [argument for argument in rest[:1] if argument == "--stop"]
    asyncio.run(own(Path(where), rest[len(flags) :], stop=bool(flags)))
