"""What a CUDA checkpoint allows and costs on this machine: states, users, SIGKILL, sizes.

    python3 -m bench.checkpoint [--seconds 140] [--small] [--out FILE] [--only CASE…]

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
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.checkpoint_tools import Tools, python_for
from bench.gpu_target import GB, TORCH, Target
from drivers.checkpointer import why_not
from drivers.probe import driver_version

MINE, OTHER = 12345, 23456  # uids that nobody has


def case_round_trip(tools: Tools) -> Iterator[Any]:
    """Root on root's: park, another tenant meanwhile, unpark; three times."""
    target = tools.target()
    yield {"up": target.up, "gpu": tools.gpu(target), "answer": target.ask()}
    for turn in range(3):
        yield {"park": tools.move("park", target), "gpu": tools.gpu(target)}
        if not turn:
            other = tools.target(device=tools.unit)
            yield {"second tenant": other.ask(), "gpu": tools.gpu(target, other)}
            other.kill()
        yield {"unpark": tools.move("unpark", target), "gpu": tools.gpu(target)}
        yield {"answer": target.ask()}
    yield {"park the awake twice": [tools.move("park", target) for _ in range(2)]}
    yield {"unpark twice": [tools.move("unpark", target) for _ in range(2)], "answer": target.ask()}


def case_held(tools: Tools) -> Iterator[Any]:
    """A call made while parked waits, and is answered after."""
    target = tools.target()
    yield tools.move("park", target)
    yield {"asked while parked": target.ask(1)}
    yield tools.move("unpark", target)
    yield {"answer": target.read(5)}


def case_steps(tools: Tools) -> Iterator[Any]:
    """A process for each step; then each half way, finished by the product."""
    target = tools.target()
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
    target = tools.target(env={"CUDA_DISABLE_PERF_BOOST": "1"})
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
        target = tools.target()
        moved = [tools.move(verb, target)["means"] for verb in verbs]
        locked = tools.steps(target.pid, "lock") if state == "locked" else None
        was = tools.gpu(target)
        end = target.kill()
        yield {state: moved or locked, "was": was, "kill": end, "gpu": settled(tools)}
    target = tools.target()
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
        target = tools.target(device=tools.unit // 4, uid=owner)
        parked = tools.move("park", target, uid=mover, prefix=prefix)
        yield {title: parked, "gpu": tools.gpu(target)}
        unparked = tools.move("unpark", target, uid=mover, prefix=prefix)
        back = None if unparked["means"] == "ok" else tools.move("unpark", target)["means"]
        yield {"unpark": unparked, "by root": back, "answer": target.ask(4)}
        target.kill()


def case_two(tools: Tools) -> Iterator[Any]:
    """Two processes in one go."""
    targets = [tools.target(), tools.target()]
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
    target = tools.target(device=device, pinned=pinned)
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
    target = tools.target(device=4 * tools.unit)
    yield tools.move("park", target)
    other = tools.target(device=-2 * tools.unit)
    yield {"while it is full": tools.move("unpark", target), "gpu": tools.gpu(target, other)}
    other.kill()
    yield {"when it is free": tools.move("unpark", target), "gpu": settled(tools, target)}
    yield {"answer": target.ask(3), "kill": target.kill(), "gpu": settled(tools)}


def case_torch(tools: Tools) -> Iterator[Any]:
    """PyTorch's allocators instead of the driver's, and its threads."""
    if importlib.util.find_spec("torch") is None:
        yield "skipped: no torch"
        return
    target = tools.target(device=4 * tools.unit, pinned=tools.unit, script=TORCH)
    for _ in range(2):
        yield {"park": tools.move("park", target), "gpu": tools.gpu(target)}
        yield {"unpark": tools.move("unpark", target), "answer": target.ask()}


def case_kill_mover(tools: Tools) -> Iterator[Any]:
    """SIGKILL drivers/checkpoint.py in mid-call: what state that leaves, and if it goes on."""
    for verb, step in (("park", "checkpoint"), ("unpark", "restore")):
        target = tools.target(device=16 * tools.unit)
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
    parser.add_argument("--only", nargs="+", metavar="CASE")
    parser.add_argument("--out", type=Path, help="file that gets the lines too")
    options = parser.parse_args()
    began = time.perf_counter()
    tools = Tools(options.small)
    if options.out:
        print_line.copy = options.out.open("w")
    print_line(case="machine", **machine())
    for case in CASES:
        name = case.__name__.removeprefix("case_")
        if options.only and name not in options.only:
            continue
        if time.perf_counter() - began > options.seconds:
            print_line(case=name, skipped="no time left")
            continue
        print_line(case=name, what=(case.__doc__ or "").strip())
        run(case, name, tools, min(60.0, options.seconds + 5 - (time.perf_counter() - began)))
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


def settled(tools: Tools, *targets: Target) -> dict[str, Any]:
    """The GPU a second later: the driver tidies up after the process."""
    time.sleep(1)
    return tools.gpu(*targets)


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
