"""The processes that do vLLM's work, by the titles it gives them, and the news of their end.

Its API server has to notice by itself that one was killed: it takes 3 to 5 s (0.26, 0.32)
and meanwhile takes requests that nobody will answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

from drivers.procfs import PROC

log = logging.getLogger(__name__)

TITLES = (b"VLLM::EngineCore", b"VLLM::Worker")  # utils/system_utils.py, 0.11 to 0.33
LAST_WORDS_S = 0.3
"""For what it has said to arrive, and for vLLM to end in its own way."""


def title(pid: int) -> bytes:
    """What a process calls itself, "" if it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def is_core(pid: int) -> bool:
    return title(pid).startswith(TITLES)


class Watch:
    """Calls `end` a little after one of `pids` has ended, unless it is closed before.

    Others than vLLM's cores are left out. `ended` is whose end it was, "" while all live.
    """

    def __init__(self, pids: Iterable[int], end: Callable[[], None]) -> None:
        self.ended = ""
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._pidfds: list[int] = []
        self._later: asyncio.TimerHandle | None = None
        for pid in filter(is_core, pids):
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue  # vLLM will tell
            except OSError as error:
                # So it will then, only later: no reason to end an engine that serves.
                log.warning("process %d is not watched: %s", pid, error.strerror)
                continue
            self._pidfds.append(pidfd)
            self._loop.add_reader(pidfd, self._notice, title(pid))

    def close(self) -> None:
        if self._later is not None:
            self._later.cancel()
        for pidfd in self._pidfds:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._pidfds = []

    def _notice(self, whose: bytes) -> None:
        self.close()
        self.ended = whose.partition(b"\0")[0].decode(errors="replace").strip()
        self._later = self._loop.call_later(LAST_WORDS_S, self._end)
