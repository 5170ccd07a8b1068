"""The host's memory and swap, from /proc/meminfo and /proc/swaps (proc_meminfo(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.tree import Tree


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap area. `compressed`: a zram device, which takes its room from the same memory."""

    name: str
    size_bytes: int

    @property
    def compressed(self) -> bool:
        return re.fullmatch(r"/dev/zram\d+", self.name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What there is, and what a new process could have without swapping. 0: not known."""

    total_bytes: int = 0
    available_bytes: int = 0
    swaps: tuple[Swap, ...] = ()


def memory(tree: Tree) -> Memory:
    """As the kernel says it now."""
    said = dict(re.findall(r"^(\w+): +(\d+) kB$", tree.text("proc/meminfo"), re.MULTILINE))
    # Filename, type, size, used, priority; in KiB. The first line is the heading.
    rows = [line.split() for line in tree.text("proc/swaps").splitlines()[1:]]
    return Memory(
        total_bytes=int(said.get("MemTotal", 0)) * 1024,
        available_bytes=int(said.get("MemAvailable", 0)) * 1024,
        swaps=tuple(Swap(row[0], int(row[2]) * 1024) for row in rows if len(row) == 5),
    )
