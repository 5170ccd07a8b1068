"""What a process still holds of memory that it has freed, given back where that is much.

Knows glibc, not vLLM. Python 3.10, standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

GROWN_BYTES = 64 << 20
"""So much more than after the last trim, and the next is due (docs/decisions/0031-trim.md)."""

STATM = Path("/proc/self/statm")


class Heap:
    """The process's own. A trim returns each page that is free, wherever it lies.

    The next allocations then come to lie on new pages, a few of them for long: a process
    that is trimmed each time that it rests grows by some of them each time. So it is
    trimmed when it first rests, after all that a start leaves, and then when it has grown.
    """

    def __init__(self) -> None:
        self._trimmed_to: int | None = None

    def tidy(self) -> None:
        """Do nothing where the C library is not glibc."""
        gc.collect()
        try:
            trim = ctypes.CDLL(None).malloc_trim
        except (OSError, AttributeError):
            return
        if self._trimmed_to is None or private_bytes() > self._trimmed_to + GROWN_BYTES:
            trim(0)
            self._trimmed_to = private_bytes()


def private_bytes() -> int:
    """That it holds in RAM, and that are no file's (proc_pid_statm(5))."""
    resident, shared = (int(pages) for pages in STATM.read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
