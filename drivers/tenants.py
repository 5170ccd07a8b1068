"""Who is on the GPU, as NVML tells: which processes, and how much memory is taken.

NVML is open only while it is asked. Asking wakes a suspended GPU: ask only where a
process has just been on it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from drivers.errors import NotPresent
from drivers.nvml_gpu import translated


@dataclass(frozen=True, slots=True)
class Look:
    """One look at all GPUs of this machine.

    bytes_by_pid  of each process that has a context, as NVML numbers processes: inside a
                  container these may be none of ours. 0 where the driver does not say
    used_bytes    of GPU memory, by anybody
    """

    bytes_by_pid: Mapping[int, int]
    used_bytes: int


class Tenants(Protocol):
    """Says who is on the GPU."""

    def look(self) -> Look:
        """Look once. Blocks, for up to a second where the driver was not loaded.

        Raises DriverError where it cannot be known.
        """
        ...


class NvmlTenants:
    """By NVML.

    nvml  pynvml, which has no types, or what stands in for it
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml

    def look(self) -> Look:
        with self._open() as nvml:
            handles = [
                nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
            ]
            bytes_by_pid: dict[int, int] = {}
            for handle in handles:
                for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                    here = bytes_by_pid.get(process.pid, 0)
                    bytes_by_pid[process.pid] = here + (process.usedGpuMemory or 0)
            used = sum(nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles)
            return Look(bytes_by_pid, used)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError as error:
                raise NotPresent("nvml", "no module pynvml") from error
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            try:
                yield nvml
            finally:
                nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            raise translated("nvml", error) from error
