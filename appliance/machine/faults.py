"""What a driver should never raise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.errors import ApplianceError
from drivers.errors import DriverError, Unresponsive

log = logging.getLogger(__name__)


@contextmanager
def unforeseen(engine: str) -> Iterator[None]:
    """Around calls of an engine's driver: anything but its own errors becomes Unresponsive.

    A fault of ours, then, or of the machine's that nobody has thought of: it is logged whole,
    and costs one life of the engine instead of the daemon's.
    """
    try:
        yield
    except (DriverError, ApplianceError):
        raise
    except Exception as error:
        log.exception("%s: an error that its driver did not foresee", engine)
        raise Unresponsive(engine, f"{type(error).__name__}: {error}") from error


@contextmanager
def no_matter(engine: str) -> Iterator[None]:
    """Around what clears away: its errors are logged, and the next start finds what is left."""
    try:
        with unforeseen(engine):
            yield
    except DriverError as error:
        log.warning("not all of the engine is cleared away: %s", error)
