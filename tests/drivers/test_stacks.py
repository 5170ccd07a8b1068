"""The stacks of a GPU's threads, over a pretended driver: given up, had again, never twice."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from drivers.engine_side.wattnap_engine.stacks import Stacks

OUT_OF_MEMORY, NO_CONTEXT = 2, 201


class Cuda:
    """cuCtxGetLimit and cuCtxSetLimit of a context whose threads have 1 KiB each."""

    def __init__(self) -> None:
        self.each_bytes = 1024
        self.says = {"get": 0, "set": 0}

    def cuCtxGetLimit(self, limit: Any, which: int) -> int:  # noqa: N802  # CUDA's name
        assert which == 0
        ctypes.cast(limit, ctypes.POINTER(ctypes.c_size_t)).contents.value = self.each_bytes
        return self.says["get"]

    def cuCtxSetLimit(self, which: int, limit: ctypes.c_size_t) -> int:  # noqa: N802
        assert which == 0
        if not self.says["set"]:
            self.each_bytes = limit.value
        return self.says["set"]


def test_given_up_and_taken_back() -> None:
    """Twice the one, once the other: they are what they were before the first."""
    cuda, stacks = Cuda(), Stacks()
    stacks.give_up(cuda)
    stacks.give_up(cuda)
    assert cuda.each_bytes == 0

    stacks.take_back(cuda)
    assert cuda.each_bytes == 1024

    cuda.each_bytes = 2048  # a kernel needed more
    stacks.take_back(cuda)
    assert cuda.each_bytes == 2048


@pytest.mark.parametrize("refuses", ["get", "set"])
def test_a_driver_that_will_not(refuses: str) -> None:
    """They stay, and nothing has to come back."""
    cuda, stacks = Cuda(), Stacks()
    cuda.says[refuses] = NO_CONTEXT
    stacks.give_up(cuda)
    stacks.take_back(cuda)
    assert cuda.each_bytes == 1024


def test_somebody_has_taken_the_memory() -> None:
    """It says so each time: nothing may run."""
    cuda, stacks = Cuda(), Stacks()
    stacks.give_up(cuda)
    cuda.says["set"] = OUT_OF_MEMORY
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no stacks any more: CUDA error 2"):
            stacks.take_back(cuda)
