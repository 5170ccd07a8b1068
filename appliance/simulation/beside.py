"""A second core, for work that only computes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin `work` in a process of its own, if there is a core for it.

    What is returned waits for its result, or raises as `work` does. The process is a fork:
    not for a program that has threads. It ends with its work, whatever becomes of us.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return work
    fork = multiprocessing.get_context("fork")
    ours, its = fork.Pipe(duplex=False)
    child = fork.Process(target=_send, args=(its, work), daemon=True)
    child.start()
    its.close()

    def result() -> T:
        try:
            told: T = ours.recv()
        except EOFError:  # it failed: so will this, and say why; or it was killed
            return work()
        finally:
            ours.close()
            child.join()
        return told

    return result


def _send(to: Connection, work: Callable[[], T]) -> None:
    try:
        to.send(work())
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - whoever waits meets the same
        to.close()
