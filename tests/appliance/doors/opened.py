"""A door at work beside the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.doors.http import HttpDoor
from appliance.doors.socket import SocketDoor


@asynccontextmanager
async def opened(door: SocketDoor | HttpDoor) -> AsyncIterator[asyncio.Task[None]]:
    """Open from here to the end of the block. Raises as it does if it cannot be opened."""
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.run(ready.set))
        waiting = tasks.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not task.done():
            try:
                yield task
            finally:
                task.cancel()
