"""Runs drivers/checkpoint.py as the product does, and looks at the GPU, for bench.checkpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu_target import GB, Target, device_files, identity, nvidia_smi, rss_mb
from drivers import checkpoint
from drivers.checkpointer import judge
from drivers.errors import DriverError, NotPresent
from drivers.tenants import Look, NvmlTenants

LIMIT_S = 25.0

# One step in a process of its own, with the product's binding. Argument: pid, steps.
STEPS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import checkpoint
said = []
try:
    cuda = checkpoint.Cuda()
    for step in sys.argv[3:]:
        began = time.perf_counter()
        got = cuda.state(int(sys.argv[2])) if step == "state" else cuda.do(step, int(sys.argv[2]))
        said.append([step, got, round(time.perf_counter() - began, 4)])
except checkpoint.StepFailed as failed:
    said.append([failed.step, failed.code, failed.word])
print(json.dumps(said))
"""


class Tools:
    """What the cases share."""

    def __init__(self, small: bool) -> None:
        self.unit = GB // 4 if small else GB
        self.targets: list[Target] = []
        self.place = Path(tempfile.mkdtemp(prefix="wn-checkpoint-"))
        self.place.chmod(0o755)
        self.program = self.place / "checkpoint.py"
        shutil.copy(checkpoint.__file__, self.program)
        self.program.chmod(0o644)
        self.python = sys.executable
        self._nvml = NvmlTenants()

    def target(self, **wanted: Any) -> Target:
        """A new one, which ends with the case."""
        made = Target(self.python, **wanted)
        self.targets.append(made)
        return made

    def move(
        self,
        verb: str,
        *targets: Target,
        uid: int = 0,
        prefix: Sequence[str] = (),
        kill_in: str = "",
    ) -> dict[str, Any]:
        """Run drivers/checkpoint.py on these: what it reports, what the product makes of it."""
        pidfds = [target.pidfd for target in targets]
        command = [*prefix, self.python, "-I", "-S", str(self.program), verb, str(LIMIT_S)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, *map(str, pidfds)],
            pass_fds=pidfds,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            **identity(uid),
        )
        said, complaint = b"", b""
        assert process.stdout is not None
        while kill_in and kill_in.encode() not in said and (line := process.stdout.readline()):
            said += line
        if kill_in:
            time.sleep(0.2)
            process.kill()
        try:
            rest, complaint = process.communicate(timeout=LIMIT_S + 5)
            said += rest
        except subprocess.TimeoutExpired:
            process.kill()
        seconds = round(time.perf_counter() - began, 3)
        lines = [json.loads(line) for line in said.splitlines()]
        report: dict[str, Any] = {"s": seconds, "status": process.returncode}
        report |= lines[-1] if lines else {"stderr": complaint[-300:].decode()}
        if verb != "state":
            report["means"] = means(verb, said, (process.poll(), complaint.decode()))
        return report

    def steps(self, pid: int, *steps: str) -> Any:
        """Each call is a process of its own."""
        command = [self.python, "-c", STEPS, str(self.place), str(pid)]
        said = []
        for step in steps:
            try:
                done = subprocess.run(
                    [*command, step], capture_output=True, text=True, timeout=20, check=False
                )
                said += json.loads(done.stdout) if done.stdout else [[step, done.stderr[-300:]]]
            except subprocess.TimeoutExpired:
                said.append([step, "no answer"])
        return said

    def gpu(self, *targets: Target) -> dict[str, Any]:
        """Memory in use, in MB, by all and by these, and which device files these have open."""
        seen: dict[str, Any] = {}
        try:
            look = self._look()
            seen["used_mb"] = look.used_bytes // 1_000_000
            listed = [look.bytes_by_pid.get(target.pid) for target in targets]
            seen["listed_mb"] = [n if n is None else n // 1_000_000 for n in listed]
            seen["tenants"] = len(look.bytes_by_pid)
        except (DriverError, OSError, subprocess.SubprocessError) as error:
            seen["nvml"] = str(error)
        seen["fds"] = [device_files(target.pid) for target in targets]
        seen["rss_mb"] = [rss_mb(target.pid) for target in targets]
        return seen

    def _look(self) -> Look:
        try:
            return self._nvml.look()
        except NotPresent:
            apps = nvidia_smi("compute-apps=pid,used_memory")
            used = nvidia_smi("gpu=memory.used")
            return Look(
                {int(pid): mib << 20 for pid, mib in apps}, sum(row[0] for row in used) << 20
            )


def means(verb: Any, said: bytes, ending: tuple[int | None, str]) -> str:
    """What the product would raise."""
    try:
        judge(verb, said, ending)
    except DriverError as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def python_for(uid: int) -> str:
    """An interpreter that this user may run: ours may be in somebody's home."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [python, "-I", "-S", "-c", "import ctypes, json"],
                check=True,
                timeout=10,
                capture_output=True,
                cwd="/",
                **identity(uid),
            )
            return python
    raise RuntimeError("no Python that another user may run")
