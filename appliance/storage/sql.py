"""sqlite-utils, which everybody here gets from here, and without what it takes along.

Where NumPy or pandas is installed (wattnap[plot] brings one), it imports them, to store
their types in columns: 12 MB that a daemon would hold for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """As if they were not installed, unless somebody has imported them already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: import fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with absent("numpy", "pandas"):
    from sqlite_utils import Database, Migrations

__all__ = ["Database", "Migrations"]
