"""What the machine is told, in order: events that somebody posts, and those that tasks owe.

Everything slow is a task whose result is an event. One that is forgotten is cancelled,
and what it would have told is never heard: its engine has died meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

from appliance.machine import lifecycle as lc

Owed: TypeAlias = "asyncio.Task[lc.Event]"


class Events:
    """`post` and `owe` wait for nothing; one reader takes `next`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[lc.Event | Owed] = asyncio.Queue()
        self._owed: set[Owed] = set()

    def post(self, event: lc.Event) -> None:
        self._queue.put_nowait(event)

    def owe(self, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, lc.Event]) -> Owed:
        """Have it done among `tasks`; its event is told once it is."""
        task = tasks.create_task(work)
        self._owed.add(task)
        task.add_done_callback(self._queue.put_nowait)
        return task

    def forget(self, task: Owed | None) -> None:
        if task is not None:
            self._owed.discard(task)
            task.cancel()

    async def next(self) -> tuple[lc.Event, Owed | None]:
        """The next event, and the task that owed it, if one did."""
        while True:
            item = await self._queue.get()
            if not isinstance(item, asyncio.Task):
                return item, None
            if item in self._owed:
                self._owed.remove(item)
                return item.result(), item
