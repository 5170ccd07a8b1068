"""How much memory the processes below this one hold: of the host, and of its GPUs.

Host memory is proportional (PSS, proc_pid_smaps(5)): what several of them share counts
once. It is what would be free without them, but for files that others use, too.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import DriverError
from drivers.procfs import PROC, descendants, processes
from drivers.tenants import NvmlTenants, Tenants


@dataclass(frozen=True, slots=True)
class Held:
    """ram_bytes   of the host
    vram_bytes  of the GPUs; None: not known
    used_bytes  of the GPUs, by anybody; None: likewise
    """

    ram_bytes: int
    vram_bytes: int | None = None
    used_bytes: int | None = None


def held(*, on_gpu: bool, tenants: Tenants | None = None) -> Held:
    """Look once. May take a second where much is held: not for the event loop.

    on_gpu   ask NVML, which would wake a GPU that is suspended
    tenants  who tells what is on the GPUs; None: NVML does
    """
    ours = descendants([os.getpid()], processes())
    ram_bytes = sum(_pss_bytes(PROC / str(pid) / "smaps_rollup") for pid in ours)
    if not on_gpu:
        return Held(ram_bytes)
    try:
        look = (tenants or NvmlTenants()).look()
    except DriverError:
        return Held(ram_bytes)
    # In a container NVML numbers processes otherwise: then none of them is ours.
    known = [size for pid, size in look.bytes_by_pid.items() if pid in ours]
    return Held(ram_bytes, sum(known) if any(known) else None, look.used_bytes)


def _pss_bytes(rollup: Path) -> int:
    """0 for what has ended, or may not be looked at."""
    with contextlib.suppress(OSError):
        for line in rollup.read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
