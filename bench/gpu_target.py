"""A process on the GPU for bench.checkpoint, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

GB = 1_000_000_000

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


class Target:
    """A process on the GPU."""

    def __init__(
        self,
        python: str,
        *,
        device: int = GB,
        pinned: int = 0,
        uid: int = 0,
        env: Any = None,
        script: str = TARGET,
    ) -> None:
        self.process = subprocess.Popen(
            [python, "-c", script, str(device), str(pinned)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | {"HOME": "/tmp"} | (env or {}),
            **identity(uid),
        )
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.up = self.read(45)
        except BaseException:
            self.process.kill()
            raise
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
