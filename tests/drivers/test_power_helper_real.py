"""wattnap-power as a program, with real control groups."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.cuda import FakeCuda, sleeping

HIERARCHY = Path("/sys/fs/cgroup/unified")
CALLER = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
connection = socket.socket(fileno=3)
fds = [os.pidfd_open(int(pid)) for pid in sys.argv[3:]]
sys.stdin.readline()
socket.send_fds(connection, [sys.argv[2].encode()], fds)
print(connection.recv(65536).decode(), flush=True)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(HIERARCHY / "cgroup.procs", os.W_OK),
    reason="needs root and a control group hierarchy of its own",
)
def test_real_groups(place: Path, cuda: FakeCuda) -> None:
    """The program itself, real control groups, a real systemctl's answer: parks its own only."""
    unit = HIERARCHY / f"wn-test-{os.getpid()}.service"
    engine = unit / "engine/main"
    engine.mkdir(parents=True)
    tool = place / "systemctl"
    try:
        with sleeping(2) as (own, other):
            (engine / "cgroup.procs").write_text(str(own.pid))
            for pid, expected in ((own.pid, '"status": 0'), (other.pid, "not in a control group")):
                said = ask_program(unit, tool, cuda, pid)
                assert expected in said, said
            assert cuda.state(own.pid) == "checkpointed"
            assert cuda.state(other.pid) == "running"
    finally:
        for group in (engine, engine.parent, unit):
            group.rmdir()


def ask_program(unit: Path, tool: Path, cuda: FakeCuda, pid: int) -> str:
    """Connect as the unit's main process, and have wattnap-power run on the other end."""
    path = tool.with_name("real.sock")
    path.unlink(missing_ok=True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening,
        contextlib.ExitStack() as stack,
    ):
        listening.bind(str(path))
        listening.listen()
        command = (
            "import socket, os, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
            f"s.connect({str(path)!r}); os.dup2(s.fileno(), 3) if s.fileno() != 3 else None; "
            f"s.detach(); exec({CALLER!r})"
        )
        caller = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", command, ".", "park", str(pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        connection, _ = listening.accept()
        (unit / "cgroup.procs").write_text(str(caller.pid))
        tool.write_text(f"#!/bin/sh\necho {caller.pid}\n")
        tool.chmod(0o755)
        script = (
            "import drivers.power_helper as h, sys; "
            f"h.SYSTEMCTL = {str(tool)!r}; sys.argv[1:] = ['--unit', {unit.name!r}]; h.main()"
        )
        with connection:
            helper = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script], stdin=connection.fileno(), env=cuda.env
                )
            )
        said, _ = caller.communicate("go\n", timeout=20)
        helper.wait(20)
    return said
