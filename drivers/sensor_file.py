"""Reads a number that a sensor puts into a file of sysfs, and says why if there is none."""

from __future__ import annotations

import errno
from pathlib import Path

from drivers.errors import BadReading, NotPermitted, NotPresent, Unresponsive

GONE = {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR}


def read_number(device: str, path: Path, *, grant: str = "") -> int:
    """The whole number in it, in the file's own unit; it may be negative.

    grant  how this user could be permitted to read it, for the message

    Raises:
        NotPresent: the file or the device behind it is gone.
        NotPermitted: this user may not read it.
        Unresponsive: the device did not answer (I/O error, bus timeout, no data).
        BadReading: it holds something else.
    """
    try:
        text = path.read_bytes()
    except PermissionError as error:
        raise NotPermitted(device, f"cannot read {path}{grant and f'; {grant}'}") from error
    except OSError as error:
        kind = NotPresent if error.errno in GONE else Unresponsive
        raise kind(device, f"{path}: {error.strerror}") from error
    digits = text.strip()
    if not digits.removeprefix(b"-").isdigit() or len(digits) > 20:  # more than 64 bits hold
        raise BadReading(device, f"{path} says {text[:40]!r}")
    return int(digits)
