"""Cancellations that were not heard."""

from __future__ import annotations

import asyncio


def heed() -> None:
    """Raise CancelledError if the task we are in was cancelled, and something swallowed it.

    To be called after whatever may: asyncio.wait_for of Python 3.11, if what it waits for
    ends in the same moment (python/cpython#86296), and with it aiomqtt's calls; an `except`
    for what came at the same time.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
