"""The energy counter of an NVIDIA GPU, through NVML.

The counter is in the GPU, in millijoules since the driver was loaded, on Volta and
newer (nvmlDeviceGetTotalEnergyConsumption). It counts while nobody reads, so that
how often it is read does not matter to the sum. On an H200 with driver 580.159 it
moves every 100 ms, and reading it takes 2.7 ms.

An open NVML keeps the driver loaded, and a reading wakes a suspended GPU: whoever
owns the meter decides when it is open (`wakes_device`).
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable
from typing import Any

from drivers.errors import (
    BadReading,
    DriverError,
    NotPermitted,
    NotPresent,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.protocols import Sample

# NVML's return codes (nvml.h, nvmlReturn_t), sorted by what the caller may do next.
# What is not listed leaves the GPU's state unknown.
ABSENT = {6, 9, 12, 28}  # not found, driver not loaded, no library, no such GPU
FORBIDDEN = {4, 17}  # no permission, device blocked by the system or its cgroups
UNABLE = {3, 13, 18, 25, 26}  # not supported, no such function, versions differ, deprecated
UNCHANGED = {2, 19, 20, 23}  # invalid argument, in use, out of memory, out of resources


class NvmlMeter:
    """Counts the joules of one GPU: the one with `uuid`, else the first.

    `device` is the GPU's UUID from the first open() on.
    """

    name = "nvml"
    source = "counter"
    wakes_device = True
    resolution_s = 0.1
    idle_w: float | None = None

    def __init__(
        self,
        *,
        uuid: str = "",
        nvml: Any = None,  # pynvml, which has no types, or what stands in for it
        now: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.device = uuid or "gpu0"
        self._uuid = uuid
        self._nvml = nvml
        self._now = now
        self._handle: Any = None
        self._initialised = False
        self._energy_mj = 0
        self._epoch = 0

    def open(self) -> None:
        if self._handle is not None:
            return
        if self._nvml is None:
            self._nvml = importlib.import_module("pynvml")
        nvml = self._nvml
        self._call(nvml.nvmlInit)
        self._initialised = True
        try:
            self._handle = (
                self._call(nvml.nvmlDeviceGetHandleByUUID, self._uuid)
                if self._uuid
                else self._call(nvml.nvmlDeviceGetHandleByIndex, 0)
            )
            self.device = self._call(nvml.nvmlDeviceGetUUID, self._handle)
            if self._energy_mj and not self._persistent():
                # Nobody kept the driver loaded while we were away: the counter may
                # have begun anew and passed its old value since.
                self._epoch += 1
                self._energy_mj = 0
            self.sample()
        except DriverError:
            self.close()
            raise

    def sample(self) -> Sample:
        read = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        energy_mj = self._call(read, self._handle)
        at_s = self._now()
        if energy_mj < 0:
            raise BadReading(self.device, f"energy counter is {energy_mj} mJ")
        if energy_mj < self._energy_mj:
            self._epoch += 1  # driver reload or reset
        self._energy_mj = energy_mj
        return Sample(at_s, energy_mj / 1000, self._epoch)

    def close(self) -> None:
        self._handle = None
        if self._initialised:
            self._initialised = False
            # It counts its users in this process; the last one lets the driver go.
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _persistent(self) -> bool:
        try:
            return bool(self._call(self._nvml.nvmlDeviceGetPersistenceMode, self._handle))
        except DriverError:
            return False

    def _call(self, function: Any, *arguments: Any) -> Any:  # of pynvml, untyped
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise translated(self.device, error) from error


def translated(device: str, error: Any) -> DriverError:
    code, said = error.value, str(error)
    if code in ABSENT:
        return NotPresent(device, said)
    if code in FORBIDDEN:
        return NotPermitted(device, f"{said}; /dev/nvidia* must be readable and writable")
    if code in UNABLE:
        return NotSupported(device, said)
    if code in UNCHANGED:
        return Refused(device, said)
    return Unresponsive(device, said)
