"""The harness itself: whatever becomes of a test run, nothing of its boxes is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.systemd.box import BOXES, Box, groups_of, sweep

RUNNER = """
import sys, time
from pathlib import Path
from tests.systemd.box import Box
box = Box([Path(each) for each in sys.argv[1:]])
box.boot()
print(box.name, flush=True)
time.sleep(600)
"""


def test_commands(trees: tuple[Path, ...]) -> None:
    """A command's input, output, user and exit status come through as they are."""
    with Box(trees) as box:
        done = box.tries("cat; echo e >&2; echo $USER; exit 7", user="nobody", input="in\n")

    assert (done.returncode, done.stdout, done.stderr) == (7, "in\nnobody\n", "e\n")


def test_power(trees: tuple[Path, ...]) -> None:
    """What was written stays, through a reboot and a power cut; each boot is another one."""
    mark = "cat /proc/sys/kernel/random/boot_id >>/var/lib/boots"
    with Box(trees) as box:
        box.run(mark)
        box.reboot()
        box.run(mark)
        box.cut()
        box.boot()
        box.run(mark)

        assert len(set(box.run("cat /var/lib/boots").splitlines())) == 3
        assert box.off() == 0


def test_killed_runner(trees: tuple[Path, ...]) -> None:
    """SIGKILL of the test run ends its box; the next run removes the rest."""
    command = [sys.executable, "-c", RUNNER, *map(str, trees)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        name = runner.stdout.readline().strip()
        folder, mounts = BOXES / name, Path("/proc/mounts")
        groups = groups_of(folder)

        assert members(groups)

        runner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while members(groups):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert name not in mounts.read_text()
    assert name not in commands()

    sweep()

    assert not folder.exists()
    assert not any(group.exists() for group in groups)


def members(groups: list[Path]) -> list[str]:
    found = []
    for group in groups:
        for file in group.rglob("cgroup.procs"):
            found += file.read_text().split()
    return found


def commands() -> str:
    return " ".join(word for process in psutil.process_iter(["cmdline"]) for word in said(process))


def said(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []
