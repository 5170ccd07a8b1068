"""The state directory belongs to one daemon at a time.

A second one would take for the remains of a crash what the first one is at, and run it
again. The kernel takes the lock back when its holder ends, however it ends; the file
stays, and means nothing by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import InUse, StorageFailed

LOCK = "lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have `folder` to ourselves until the context is left. It is made if it is missing.

    Raises InUse; or StorageFailed if there can be no lock.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Closed in every child: one that outlives us must not go on holding it.
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        _lock(fd, folder)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(folder, _read_pid(fd)) from None
    except OSError as error:
        raise _unusable(folder, error) from error
    with contextlib.suppress(OSError):  # a full disk keeps us from saying who we are, no more
        os.pwrite(fd, b"%-10d\n" % os.getpid(), 0)


def _read_pid(fd: int) -> int | None:
    """The holder's, as far as it could say."""
    told = os.pread(fd, 11, 0).strip()
    return int(told) if told.isdigit() else None


def _unusable(folder: Path, error: OSError) -> StorageFailed:
    why = error.strerror or str(error)
    return StorageFailed(
        f"state_dir: {folder}: {why}; see to the disk, and to the folder's owner and mode,"
        " or name another state_dir in the configuration"
    )
