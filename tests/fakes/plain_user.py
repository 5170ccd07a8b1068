"""Root without its right to pass by owner and mode, so that it can test what a user may not do."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

PASSING_BY = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/capability.h)


class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Rights(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextlib.contextmanager
def as_plain_user() -> Iterator[None]:
    """Of this thread, and of those that it starts meanwhile: not of the whole process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = Header(0x20080522, 0), (Rights * 2)()
    assert libc.capget(ctypes.byref(header), rights) == 0
    before = rights[0].effective
    rights[0].effective = before & ~PASSING_BY
    assert libc.capset(ctypes.byref(header), rights) == 0
    try:
        yield
    finally:
        rights[0].effective = before
        assert libc.capset(ctypes.byref(header), rights) == 0
