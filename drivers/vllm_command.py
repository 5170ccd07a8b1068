"""How a vLLM server is called, and what its output says: pure functions.

Flags and variables are those of vLLM 0.11 to 0.33 unless a version is named; the
differences between versions are in drivers.vllm_versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from drivers.upstream import SERVER_KEEP_S
from drivers.vllm_home import Home
from drivers.vllm_rest import ENGINE_SIDE
from drivers.vllm_versions import Row

# uvicorn's line just before it listens.
READY_LINE = "Application startup complete"

# Below the caches' folder, for what the driver compiles; we make it, which it may not do.
CUDA_CACHE = "cuda"

# What belongs to the daemon and not to its child: its interpreter's settings, its
# secrets, its sockets from systemd; and a key that would shut us out (the socket is private).
OURS = re.compile(
    r"PYTHON|WATTNAP_|LISTEN_|NOTIFY_SOCKET|WATCHDOG_|CREDENTIALS_DIRECTORY|VIRTUAL_ENV|VLLM_API_KEY"
)
# "(EngineCore pid=7) ERROR 11-21 06:00:00 [core.py:93] " before what is said.
PREFIX = re.compile(r"^(\(\S+ pid=\d+\) )?([A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]+\] )?\s*")
CAUSE = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b")
# vLLM's summaries of a failed start, of the core's and of a worker's: they only say that
# the cause is above them.
EFFECT = re.compile("(Engine core|WorkerProc) initialization failed")
# Its statistics, every 10 s while it works (v1/metrics/loggers.py, 0.32).
PROGRESS = re.compile(r"throughput: (?!0\.0 )[\d.]+ tokens/s")

LARGE_BYTES = 1 << 20
"""So much at once an engine on a GPU takes from the system, not from its heap."""

TOP_BYTES = 64 << 20
"""Free at the end of its heap: so much it keeps. By itself glibc does, as long as it is not told
what is large (mallopt(3)); told that, it keeps 128 KiB."""

QUEUES = 2
"""Work queues between an engine and its GPU: each takes its time to park and to bring back."""

BOOST_SWITCH = "CUDA_DISABLE_PERF_BOOST"
"""An engine's variable: an awake, idle GPU lets its clock go down."""


def flags_for(
    row: Row,
    *,
    socket: Path,
    served_name: str,
    stop_timeout_s: float,
) -> list[str]:
    """The command line after the model's name, but for its size and speed (vllm_settings)."""
    flags = ["--uds", str(socket), "--served-model-name", served_name]
    if row.drains:
        flags += ["--shutdown-timeout", str(round(stop_timeout_s))]
    if not row.cors_closed:
        flags += ["--allowed-origins", "[]"]
    return [*flags, "--disable-uvicorn-access-log"]


def environment(
    base: Mapping[str, str],
    *,
    python: Path,
    home: Home,
    cache_dir: Path,
    device: str,
    local_model: bool,
    start_timeout_s: float,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """The server's environment: `base` without what is ours, then our settings, then `extra`.

    A PYTHONPATH in `extra` comes behind our own part of it.
    """
    env = {name: value for name, value in base.items() if not OURS.match(name)}
    env |= {
        # Its tools (ninja, for kernels built at run time) are beside its Python.
        "PATH": f"{python.parent}:{base.get('PATH', '/usr/bin:/bin')}",
        "PYTHONUNBUFFERED": "1",
        # Neither is removed by vLLM, even on a clean exit: so, into our folder.
        "VLLM_RPC_BASE_PATH": str(home.ipc),
        "TMPDIR": str(home.tmp),
        # These must outlive TMPDIR, or each start compiles anew.
        "VLLM_CACHE_ROOT": str(cache_dir / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache_dir / "torchinductor"),
        "TRITON_CACHE_DIR": str(cache_dir / "triton"),
        # These would lie in the home of whoever runs us, if that can be written at all.
        "CUDA_CACHE_PATH": str(cache_dir / CUDA_CACHE),
        "FLASHINFER_WORKSPACE_BASE": str(cache_dir / "flashinfer"),
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(SERVER_KEEP_S),
        "VLLM_ENGINE_READY_TIMEOUT_S": str(round(start_timeout_s)),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
    }
    if local_model:
        env["HF_HUB_OFFLINE"] = "1"
    if device == "cuda":
        # Idle at 75-79 W instead of 117-123, at no cost in speed (H200, driver 580.159).
        env[BOOST_SWITCH] = "1"
        # One heap for all threads: parking begins new ones, and each heap of their own keeps
        # what it once held. And nothing large from it, which would leave gaps behind.
        env.setdefault("MALLOC_ARENA_MAX", "1")
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(LARGE_BYTES))
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(TOP_BYTES))
        env.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", str(QUEUES))
    else:
        # By default it binds threads to cores and reserves one, which small boxes lack.
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    path = ":".join(filter(None, [str(ENGINE_SIDE), extra.get("PYTHONPATH")]))
    return env | dict(extra) | {"PYTHONPATH": path}


def shows_progress(line: str) -> bool:
    """Whether a line of output proves that tokens were made lately."""
    return "throughput" in line and PROGRESS.search(line) is not None


def last_words(lines: Iterable[str]) -> str:
    """The line of a dying server's output that says most: its last error, else its last line."""
    said = [PREFIX.sub("", line).rstrip() for line in lines]
    causes = [line for line in said if CAUSE.match(line)]
    best = [line for line in causes if not EFFECT.search(line)] or causes or [s for s in said if s]
    return best[-1][:500] if best else ""
