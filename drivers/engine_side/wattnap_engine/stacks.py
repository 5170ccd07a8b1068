"""The stacks of a GPU's threads, given back while none of them runs.

A context has one for each thread that its device can run at once, used or not: 1 KiB by
default, 264 MiB in all on an H200. While it sleeps it needs none, and a checkpoint need not
carry them (docs/decisions/0035-light-context.md). Knows CUDA, not vLLM. Python 3.10, standard
library only.
"""

from __future__ import annotations

import ctypes
from typing import Any

STACK_SIZE = 0
"""CU_LIMIT_STACK_SIZE, in bytes of each thread (cuda.h)."""


class Stacks:
    """Those of one context, that of the thread that calls. `cuda`: libcuda."""

    def __init__(self) -> None:
        self._each_bytes: int | None = None  # that they had; None: they have it

    def give_up(self, cuda: Any) -> None:
        """Once nothing runs any more. A driver that will not: they stay as they are."""
        if self._each_bytes is not None:
            return
        limit = ctypes.c_size_t()
        if cuda.cuCtxGetLimit(ctypes.byref(limit), STACK_SIZE):
            return
        if cuda.cuCtxSetLimit(STACK_SIZE, ctypes.c_size_t(0)) == 0:
            self._each_bytes = limit.value

    def take_back(self, cuda: Any) -> None:
        """Before anything runs again.

        CUDA gives a kernel what it is known to need; not one that calls itself, or another by
        pointer. So an engine without them must not serve. Raises RuntimeError.
        """
        if self._each_bytes is None:
            return
        if code := cuda.cuCtxSetLimit(STACK_SIZE, ctypes.c_size_t(self._each_bytes)):
            raise RuntimeError(f"the GPU's threads have no stacks any more: CUDA error {code}")
        self._each_bytes = None
