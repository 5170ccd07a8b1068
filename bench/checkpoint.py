"""What a CUDA checkpoint allows and costs on this machine: states, users, SIGKILL, sizes.

    python3 -m bench.checkpoint [--seconds 140] [--small] [--out FILE]

For a machine with an NVIDIA GPU that nobody else uses, x86-64, as root (else the cases
with other users are skipped). Needs nothing but the standard library; GPU memory is by
pynvml, else by nvidia-smi. Changes no setting of the card. Each case has targets of its
own, a failure ends only its case, and the riskiest come last. `--small` takes a quarter
of the bytes; cases that would begin after `--seconds` are skipped, and say so.

Prints one line of JSON per case. The work is done by drivers/checkpoint.py, run as the
product runs it; the target is a process that has a context and memory, no more.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from drivers import checkpoint
from drivers.checkpointer import judge, why_not
from drivers.errors import DriverError, NotPresent
from drivers.probe import driver_version
from drivers.tenants import Look, NvmlTenants

GB = 1_000_000_000
MINE, OTHER = 12345, 23456  # uids that nobody has
LIMIT_S = 25.0

# Argument: device bytes, pinned bytes. A line in, a line out: whether the memory is as it was.
TARGET = """
import ctypes as c, json, sys, time
began = time.perf_counter()
cuda = c.CDLL("libcuda.so.1")
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code: print(json.dumps({"failed": name, "code": code}), flush=True); sys.exit(1)
device_bytes, pinned_bytes = map(int, sys.argv[1:3])
device, context = c.c_int(), c.c_void_p()
call("cuInit", 0); call("cuDeviceGet", c.byref(device), 0)
call("cuDevicePrimaryCtxRetain", c.byref(context), device); call("cuCtxSetCurrent", context)
small, large, pinned = c.c_void_p(), c.c_void_p(), c.c_void_p()
call("cuMemAlloc_v2", c.byref(small), c.c_size_t(4096))
call("cuMemsetD32_v2", small, 0x12345678, c.c_size_t(1024))
if device_bytes < 0:  # all but that much
    free, total = c.c_size_t(), c.c_size_t()
    call("cuMemGetInfo_v2", c.byref(free), c.byref(total)); device_bytes += free.value
if device_bytes:
    call("cuMemAlloc_v2", c.byref(large), c.c_size_t(device_bytes))
    call("cuMemsetD32_v2", large, 0x01020304, c.c_size_t(device_bytes // 4))
if pinned_bytes:
    call("cuMemHostAlloc", c.byref(pinned), c.c_size_t(pinned_bytes), 0)
    c.memset(pinned, 7, 4096)
call("cuCtxSynchronize")
print(json.dumps({"up_s": round(time.perf_counter() - began, 3)}), flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    words, good = (c.c_uint32 * 1024)(), True
    for memory, value in ((small, 0x12345678), (large, 0x01020304)):
        if memory.value:
            call("cuMemcpyDtoH_v2", words, memory, c.c_size_t(4096))
            good &= set(words) == {value}
    if pinned.value: good &= c.string_at(pinned, 4096) == bytes([7]) * 4096
    call("cuMemsetD32_v2", small, 0x12345678, c.c_size_t(1024)); call("cuCtxSynchronize")
    print(json.dumps({"intact": good, "s": round(time.perf_counter() - began, 4)}), flush=True)
"""

TORCH = """
import json, sys, time
began = time.perf_counter()
import torch
device_bytes, pinned_bytes = map(int, sys.argv[1:3])
large = torch.arange(device_bytes // 4, dtype=torch.int32, device="cuda")
pinned = torch.full((pinned_bytes,), 7, dtype=torch.uint8, pin_memory=True)
first = large.sum().item()
print(json.dumps({"up_s": round(time.perf_counter() - began, 3)}), flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    good = large.sum().item() == first and int(pinned[:4096].cuda().sum()) == 7 * 4096
    print(json.dumps({"intact": good, "s": round(time.perf_counter() - began, 4)}), flush=True)
"""

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


class Target:
    """A process on the GPU."""

    def __init__(
        self,
        tools: Tools,
        *,
        device: int = GB,
        pinned: int = 0,
        uid: int = 0,
        env: Any = None,
        script: str = TARGET,
    ) -> None:
        self.process = subprocess.Popen(
            [tools.python, "-c", script, str(device), str(pinned)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | {"HOME": "/tmp"} | (env or {}),
            **identity(uid),
        )
        tools.targets.append(self)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.up = self.read(45)
        if "up_s" not in self.up:
            raise RuntimeError(f"target: {self.up} {self.end()[-300:]}")

    def ask(self, within_s: float = 8) -> Any:
        """Whether it computes, and its memory is as it was; "no answer" while it is held."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.read(within_s)

    def read(self, within_s: float) -> Any:
        try:
            line = self.lines.get(timeout=within_s)
        except queue.Empty:
            return "no answer"
        return json.loads(line) if line else {"exited": self.process.poll()}

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def kill(self) -> dict[str, Any]:
        """SIGKILL it: how long until it is gone, or that it is not."""
        began = time.perf_counter()
        self.process.kill()
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            return {"gone": False, "state": stat_of(self.pid)}
        return {"gone": True, "status": status, "s": round(time.perf_counter() - began, 3)}

    def end(self) -> str:
        self.kill()
        assert self.process.stderr is not None
        return self.process.stderr.read() if self.process.poll() is not None else ""


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


def case_round_trip(tools: Tools) -> Iterator[Any]:
    """Root on root's: park, another tenant meanwhile, unpark; three times."""
    target = Target(tools)
    yield {"up": target.up, "gpu": tools.gpu(target), "answer": target.ask()}
    for turn in range(3):
        yield {"park": tools.move("park", target), "gpu": tools.gpu(target)}
        if not turn:
            other = Target(tools, device=tools.unit)
            yield {"second tenant": other.ask(), "gpu": tools.gpu(target, other)}
            other.kill()
        yield {"unpark": tools.move("unpark", target), "gpu": tools.gpu(target)}
        yield {"answer": target.ask()}
    yield {"park the awake twice": [tools.move("park", target) for _ in range(2)]}
    yield {"unpark twice": [tools.move("unpark", target) for _ in range(2)], "answer": target.ask()}


def case_held(tools: Tools) -> Iterator[Any]:
    """A call made while parked waits, and is answered after."""
    target = Target(tools)
    yield tools.move("park", target)
    yield {"asked while parked": target.ask(1)}
    yield tools.move("unpark", target)
    yield {"answer": target.read(5)}


def case_steps(tools: Tools) -> Iterator[Any]:
    """A process for each step; then each half way, finished by the product."""
    target = Target(tools)
    yield tools.steps(target.pid, "state", "lock", "state", "checkpoint", "state")
    yield tools.steps(target.pid, "restore", "state", "unlock", "state")
    yield {"answer": target.ask()}
    yield {"from the wrong state": tools.steps(target.pid, "unlock", "checkpoint", "restore")}
    yield {"locked": tools.steps(target.pid, "lock"), "unpark": tools.move("unpark", target)}
    yield {"answer": target.ask()}
    yield {"locked": tools.steps(target.pid, "lock"), "park": tools.move("park", target)}
    yield {"restored": tools.steps(target.pid, "restore"), "unpark": tools.move("unpark", target)}
    yield {"answer": target.ask()}


def case_no_context(tools: Tools) -> Iterator[Any]:
    """Processes without CUDA: what the driver says to them."""
    plain = subprocess.Popen(["sleep", "60"])
    pidfd = os.pidfd_open(plain.pid)
    try:
        yield tools.steps(plain.pid, "state", "lock", "state")
        yield {"alive": plain.poll() is None}
    finally:
        plain.kill()
        plain.wait()
        os.close(pidfd)
    yield {"no such process": tools.steps(plain.pid, "state", "lock")}


def case_boost(tools: Tools) -> Iterator[Any]:
    """With CUDA_DISABLE_PERF_BOOST, as the product starts its engines."""
    target = Target(tools, env={"CUDA_DISABLE_PERF_BOOST": "1"})
    yield tools.move("park", target)
    yield tools.move("unpark", target)
    yield {"answer": target.ask()}


def case_kill_parked(tools: Tools) -> Iterator[Any]:
    """SIGKILL while checkpointed, locked, running, restored: gone, and the memory back?"""
    yield {"before": tools.gpu()}
    for state, verbs in (
        ("checkpointed", ["park"]),
        ("locked", []),
        ("running", []),
        ("restored", ["park", "unpark"]),
    ):
        target = Target(tools)
        moved = [tools.move(verb, target)["means"] for verb in verbs]
        locked = tools.steps(target.pid, "lock") if state == "locked" else None
        was = tools.gpu(target)
        end = target.kill()
        yield {state: moved or locked, "was": was, "kill": end, "gpu": settled(tools)}
    target = Target(tools)
    yield {"a context after all that": target.ask()}


def case_users(tools: Tools) -> Iterator[Any]:
    """Who may: the same user, another one, root, root with few capabilities."""
    if os.geteuid() != 0:
        yield "skipped: not root"
        return
    tools.python = python_for(MINE)
    for title, owner, mover, prefix in (
        ("same user", MINE, MINE, ()),
        ("same user, no new privileges", MINE, MINE, ("setpriv", "--no-new-privs")),
        ("another user", MINE, OTHER, ()),
        ("a user on root's", 0, MINE, ()),
        ("root on a user's", MINE, 0, ()),
        ("root, no capability", MINE, 0, ("setpriv", "--bounding-set=-all")),
        ("root, sys_ptrace", MINE, 0, ("setpriv", "--bounding-set=-all,+sys_ptrace")),
        (
            "root, sys_ptrace and dac_override",
            MINE,
            0,
            ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_override"),
        ),
    ):
        if prefix and not shutil.which(prefix[0]):
            yield {title: "skipped: no setpriv"}
            continue
        target = Target(tools, device=tools.unit // 4, uid=owner)
        parked = tools.move("park", target, uid=mover, prefix=prefix)
        yield {title: parked, "gpu": tools.gpu(target)}
        unparked = tools.move("unpark", target, uid=mover, prefix=prefix)
        back = None if unparked["means"] == "ok" else tools.move("unpark", target)["means"]
        yield {"unpark": unparked, "by root": back, "answer": target.ask(4)}
        target.kill()


def case_two(tools: Tools) -> Iterator[Any]:
    """Two processes in one go."""
    targets = [Target(tools), Target(tools)]
    yield {"park": tools.move("park", *targets), "gpu": tools.gpu(*targets)}
    yield {"unpark": tools.move("unpark", *targets), "answers": [t.ask() for t in targets]}


def case_device_bytes(tools: Tools) -> Iterator[Any]:
    """Seconds against bytes on the device; the second turn has its host memory already."""
    for amount in (1, 8, 16):
        yield from sized(tools, device=amount * tools.unit)


def case_pinned_bytes(tools: Tools) -> Iterator[Any]:
    """Seconds against pinned host bytes, with 1 on the device."""
    for amount in (0, 4, 16):
        yield from sized(tools, device=tools.unit, pinned=amount * tools.unit)


def sized(tools: Tools, *, device: int, pinned: int = 0) -> Iterator[Any]:
    target = Target(tools, device=device, pinned=pinned)
    for _ in range(2):
        parked, seen = tools.move("park", target), tools.gpu(target)
        unparked = tools.move("unpark", target)
        yield {
            "device_gb": device / GB,
            "pinned_gb": pinned / GB,
            "up": target.up,
            "park": [parked["means"], parked["s"], parked.get("took_s")],
            "parked": seen,
            "unpark": [unparked["means"], unparked["s"], unparked.get("took_s")],
            "answer": target.ask(),
        }
    target.kill()


def case_no_room(tools: Tools) -> Iterator[Any]:
    """Another tenant has taken the memory: what restore says, and whether it can be had after."""
    target = Target(tools, device=4 * tools.unit)
    yield tools.move("park", target)
    other = Target(tools, device=-2 * tools.unit)
    yield {"while it is full": tools.move("unpark", target), "gpu": tools.gpu(target, other)}
    other.kill()
    yield {"when it is free": tools.move("unpark", target), "gpu": settled(tools, target)}
    yield {"answer": target.ask(3), "kill": target.kill(), "gpu": settled(tools)}


def case_torch(tools: Tools) -> Iterator[Any]:
    """PyTorch's allocators instead of the driver's, and its threads."""
    if importlib.util.find_spec("torch") is None:
        yield "skipped: no torch"
        return
    target = Target(tools, device=4 * tools.unit, pinned=tools.unit, script=TORCH)
    for _ in range(2):
        yield {"park": tools.move("park", target), "gpu": tools.gpu(target)}
        yield {"unpark": tools.move("unpark", target), "answer": target.ask()}


def case_kill_mover(tools: Tools) -> Iterator[Any]:
    """SIGKILL drivers/checkpoint.py in mid-call: what state that leaves, and if it goes on."""
    for verb, step in (("park", "checkpoint"), ("unpark", "restore")):
        target = Target(tools, device=16 * tools.unit)
        if verb == "unpark":
            yield tools.move("park", target)
        yield {f"killed 0.2 s into {step}": tools.move(verb, target, kill_in=f'"{step}"')}
        yield {"then": tools.steps(target.pid, "state"), "gpu": tools.gpu(target)}
        yield {"unpark": tools.move("unpark", target), "answer": target.ask(4)}
        yield {"kill": target.kill(), "gpu": settled(tools)}


CASES: tuple[Callable[[Tools], Iterator[Any]], ...] = (
    case_round_trip,
    case_users,
    case_steps,
    case_kill_parked,
    case_no_room,
    case_held,
    case_boost,
    case_two,
    case_no_context,
    case_pinned_bytes,
    case_device_bytes,
    case_torch,
    case_kill_mover,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=140.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, help="file that gets the lines too")
    options = parser.parse_args()
    began = time.perf_counter()
    tools = Tools(options.small)
    if options.out:
        print_line.copy = options.out.open("w")
    print_line(case="machine", **machine())
    for case in CASES:
        name = case.__name__.removeprefix("case_")
        if time.perf_counter() - began > options.seconds:
            print_line(case=name, skipped="no time left")
            continue
        print_line(case=name, what=(case.__doc__ or "").strip())
        run(case, name, tools, min(40.0, options.seconds + 5 - (time.perf_counter() - began)))
    shutil.rmtree(tools.place)
    print_line(case="end", s=round(time.perf_counter() - began, 1))


def run(case: Callable[[Tools], Iterator[Any]], name: str, tools: Tools, within_s: float) -> None:
    """Print what it yields; whatever happens in it, nothing of it is left."""
    began = time.perf_counter()

    def ring(*_: object) -> None:
        raise TimeoutError("no time left")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, within_s))
    try:
        for seen in case(tools):
            print_line(case=name, at_s=round(time.perf_counter() - began, 2), seen=seen)
    except Exception as error:  # noqa: BLE001 - the others go on
        print_line(case=name, failed=f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for target in tools.targets:
            target.kill()
            os.close(target.pidfd)
        tools.targets.clear()


def machine() -> dict[str, Any]:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    status = Path("/proc/self/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "driver": driver_version(),
        "why_not": why_not(),
        "uid": os.geteuid(),
        "capabilities": facts.get("CapEff"),
        "seccomp": facts.get("Seccomp"),
        "yama": scope.read_text().strip() if scope.exists() else None,
        "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // GB,
        "nvidia_env": {k: v for k, v in os.environ.items() if k.startswith(("CUDA", "NVIDIA_V"))},
        "devices": sorted(
            f"{path.name} {path.stat().st_mode & 0o777:o}" for path in Path("/dev").glob("nvidia*")
        ),
    }


def means(verb: Any, said: bytes, ending: tuple[int | None, str]) -> str:
    """What the product would raise."""
    try:
        judge(verb, said, ending)
    except DriverError as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def settled(tools: Tools, *targets: Target) -> dict[str, Any]:
    """The GPU a second later: the driver tidies up after the process."""
    time.sleep(1)
    return tools.gpu(*targets)


def nvidia_smi(query: str) -> list[list[int]]:
    command = ["nvidia-smi", f"--query-{query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    rows = [row.split(",") for row in done.stdout.splitlines()]
    return [[int(field) if field.strip().isdecimal() else 0 for field in row] for row in rows]


def device_files(pid: int) -> dict[str, int] | str:
    """How many descriptors it has of each device file of the driver's."""
    counts: dict[str, int] = {}
    try:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                at = str(fd.readlink())
                if at.startswith("/dev/nvidia"):
                    counts[at] = counts.get(at, 0) + 1
    except OSError as error:
        return str(error.strerror)
    return counts


def rss_mb(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1000
    return None


def stat_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "gone"


def identity(uid: int) -> dict[str, Any]:
    """Arguments of Popen by which a process becomes that user's; 0: stays as we are."""
    return {"user": uid, "group": uid, "extra_groups": []} if uid else {}


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


class Printer:
    """Prints lines of JSON, and keeps a copy where one is wanted."""

    copy: Any = None

    def __call__(self, **facts: object) -> None:
        line = json.dumps(facts)
        print(line, flush=True)
        if self.copy:
            print(line, file=self.copy, flush=True)


print_line = Printer()


if __name__ == "__main__":
    main()
