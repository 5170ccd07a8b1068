"""The door under test, at work beside the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from appliance.clock import SystemClock
from appliance.config import Mqtt
from appliance.desk import Desk
from appliance.doors.mqtt import MqttDoor

BASE = "wattnap/home"


def door(port: int, desk: Desk, *, max_request_bytes: int = 1 << 20, **config: Any) -> MqttDoor:
    """`config`: fields of Mqtt. It tries again quickly."""
    quick = {"retry_min_s": 0.05, "retry_max_s": 0.3, "keep_alive_s": 5, "publish_timeout_s": 2.0}
    return MqttDoor(
        Mqtt(port=port, **{**quick, **config}),
        name="home",
        base=BASE,
        desk=desk,
        max_request_bytes=max_request_bytes,
        clock=SystemClock(),
        version="0.0",
    )


@asynccontextmanager
async def serving(door: MqttDoor) -> AsyncIterator[asyncio.Task[None]]:
    """From when it has connected, or could not, until the context is left: then it has stopped."""
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.run(ready.set))
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield task
        finally:
            task.cancel()
            async with asyncio.timeout(5):
                await asyncio.wait([task])
