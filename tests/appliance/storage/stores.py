"""A store in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.storage.store import Store


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    """Closed in the end, whatever happened to it."""
    store = Store(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
