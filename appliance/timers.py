"""Waits for a time or for news, whichever comes first."""

from __future__ import annotations

import asyncio
import math

from appliance.clock import Clock


async def sleep_until_or(clock: Clock, at_s: float, news: asyncio.Event) -> None:
    """Return at `at_s`, which may be math.inf, or once `news` is set."""
    if at_s == math.inf:
        await news.wait()
        return
    async with asyncio.TaskGroup() as tasks:
        timer = tasks.create_task(clock.sleep_until(at_s))
        told = tasks.create_task(news.wait())
        timer.add_done_callback(lambda _: told.cancel())
        told.add_done_callback(lambda _: timer.cancel())
