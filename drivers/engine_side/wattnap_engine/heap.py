"""What a process holds of memory that it has freed, given back where that is much.

Knows glibc and CPython, not vLLM. Python 3.10, standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import Any

MUCH_BYTES = 64 << 20
"""Free and still held: so much is given back (docs/decisions/0033-heap-kept.md)."""

SPARE_BYTES = 4 << 20
"""Free and in RAM, from the first rest on (docs/decisions/0036-spare-heap.md)."""
PIECE_BYTES = 64 << 10

STATM = Path("/proc/self/statm")


class Heap:
    """The process's own, looked at whenever it comes to rest.

    A trim returns each page that is free, wherever it lies. The next allocations then come
    to lie on new pages, a few of them for long: what was trimmed grows again, and for many
    turns. What is free is therefore kept, for them to lie in, unless it is much; and where
    little is free, there is some more of it from the first rest on.
    """

    def __init__(self) -> None:
        self._held: int | None = None  # bytes, after the first rest or the latest trim

    def tidy(self) -> int:
        """Return how many bytes were given back: none by a C library but glibc, from 2.33 on."""
        let_go()
        if (libc := glibc()) is None:
            return 0
        before = private_bytes()
        if self._held is None:
            much = libc.mallinfo2().fordblks > MUCH_BYTES
        else:  # pages that a trim has returned still count as free: the process's size does not lie
            much = before > self._held + MUCH_BYTES
        if much:
            libc.malloc_trim(0)
        given_back = before - private_bytes() if much else 0
        if much or self._held is None:
            lay_in(libc, SPARE_BYTES)
            self._held = private_bytes()
        return given_back


def let_go() -> None:
    """Free what only Python itself still holds: cycles, and names in its cache of attributes.

    PyTorch and others look attributes up by names that they make anew each time. The cache
    keeps up to 4 096 of these, one in each of as many places, and with each the page on which
    it happened to lie (docs/decisions/0041-names-kept.md).
    """
    gc.collect()
    # The first from Python 3.13 on, where the other is deprecated.
    for name in ("_clear_internal_caches", "_clear_type_cache"):
        if (clear := getattr(sys, name, None)) is not None:
            clear()
            return


def glibc() -> Any:
    """The C library, if it is one that can be asked and trimmed; else None."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = MallInfo2
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc_trim  # noqa: B018  # there, or AttributeError
    except (OSError, AttributeError):
        return None
    return libc


def in_use() -> int | None:
    """Bytes that have been allocated and not freed, but for what is large; None: as in tidy."""
    libc = glibc()
    return None if libc is None else int(libc.mallinfo2().uordblks)


def lay_in(libc: Any, size: int) -> None:
    """Have so much free, on pages that are there; or as much of it as the system gives."""
    pieces = [libc.malloc(PIECE_BYTES) for _ in range(size // PIECE_BYTES)]
    for piece in filter(None, pieces):
        ctypes.memset(piece, 1, PIECE_BYTES)
    for piece in pieces:
        libc.free(ctypes.c_void_p(piece))


class MallInfo2(ctypes.Structure):
    """Bytes, and counts, of all heaps: mallinfo(3)."""

    _fields_ = (
        ("arena_to_fsmblks", ctypes.c_size_t * 7),
        ("uordblks", ctypes.c_size_t),  # in use
        ("fordblks", ctypes.c_size_t),  # free
        ("keepcost", ctypes.c_size_t),
    )


def private_bytes() -> int:
    """That it holds in RAM, and that are no file's (proc_pid_statm(5))."""
    resident, shared = (int(pages) for pages in STATM.read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
