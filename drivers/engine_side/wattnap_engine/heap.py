"""What a process holds of memory that it has freed, given back where that is much.

Knows glibc, not vLLM. Python 3.10, standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

MUCH_BYTES = 64 << 20
"""Free and still held: so much is given back (docs/decisions/0033-heap-kept.md)."""

STATM = Path("/proc/self/statm")


class Heap:
    """The process's own, looked at whenever it comes to rest.

    A trim returns each page that is free, wherever it lies. The next allocations then come
    to lie on new pages, a few of them for long: what was trimmed grows again, and for many
    turns. What is free is therefore kept, for them to lie in, unless it is much.
    """

    def __init__(self) -> None:
        self._held: int | None = None  # bytes, after the first rest or the latest trim

    def tidy(self) -> int:
        """Return how many bytes were given back: none by a C library but glibc, from 2.33 on."""
        gc.collect()
        try:
            libc = ctypes.CDLL(None)
            trim, free = libc.malloc_trim, libc.mallinfo2
        except (OSError, AttributeError):
            return 0
        before = private_bytes()
        if self._held is None:
            free.restype = MallInfo2
            much = free().fordblks > MUCH_BYTES
        else:  # pages that a trim has returned still count as free: the process's size does not lie
            much = before > self._held + MUCH_BYTES
        if much:
            trim(0)
        if much or self._held is None:
            self._held = private_bytes()
        return before - private_bytes() if much else 0


class MallInfo2(ctypes.Structure):
    """Bytes, and counts, of all heaps: mallinfo(3)."""

    _fields_ = (
        ("arena_to_uordblks", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),  # free
        ("keepcost", ctypes.c_size_t),
    )


def private_bytes() -> int:
    """That it holds in RAM, and that are no file's (proc_pid_statm(5))."""
    resident, shared = (int(pages) for pages in STATM.read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
