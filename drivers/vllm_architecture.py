"""What the GPU is, told to FlashInfer as it is imported: by itself it would open the GPU to ask.

For the warm host, which must not (drivers.vllm_imports). Runs in the engine's own Python, 3.10
or newer; standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

NVML = "libnvidia-ml.so.1"
VARIABLE = "FLASHINFER_CUDA_ARCH_LIST"
"""Read by flashinfer/compilation_context.py (0.6). What it compiles is kept by it, too: as told
here it finds the same folder as it does by asking."""


@contextlib.contextmanager
def architecture_told() -> Iterator[bool]:
    """Around the import; whether it is told. Afterwards the environment is as before.

    A fork goes by what was told, and finds the variable no more than one that was started alone.
    """
    if VARIABLE in os.environ:
        yield True
        return
    found = architecture()
    if not found:
        yield False
        return
    os.environ[VARIABLE] = found
    try:
        yield True
    finally:
        del os.environ[VARIABLE]


def architecture() -> str:
    """Of all GPUs, as "9.0", by NVML; "" if they differ, or nobody can tell.

    Leaves NVML initialized, as importing vLLM does.
    """
    found = set()
    with contextlib.suppress(OSError, AttributeError):
        nvml = ctypes.CDLL(NVML)
        count = ctypes.c_uint()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return ""
        for index in range(count.value):
            device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
                return ""
            numbers = (ctypes.byref(major), ctypes.byref(minor))
            if nvml.nvmlDeviceGetCudaComputeCapability(device, *numbers):
                return ""
            found.add(f"{major.value}.{minor.value}")
    return found.pop() if len(found) == 1 else ""
