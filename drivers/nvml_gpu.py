"""One GPU through NVML: opened, asked, closed; its error codes as ours.

An open NVML keeps the driver loaded, and most questions wake a suspended GPU. So sysfs
is looked at before each: a GPU that is suspended is left alone.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

from drivers.errors import (
    DriverError,
    NotPermitted,
    NotPresent,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.tree import Tree

# NVML's return codes (nvml.h, nvmlReturn_t), sorted by what the caller may do next.
# What is not listed leaves the GPU's state unknown.
ABSENT = {6, 9, 12, 28}  # not found, driver not loaded, no library, no such GPU
FORBIDDEN = {4, 17}  # no permission, device blocked by the system or its cgroups
UNABLE = {3, 13, 18, 25, 26}  # not supported, no such function, versions differ, deprecated
UNCHANGED = {2, 19, 20, 23}  # invalid argument, in use, out of memory, out of resources

HIGHEST_W = 2000.0  # for a GPU that does not tell its limit: more than any draws


class NvmlGpu:
    """The GPU with `uuid`, else the one at PCI `address`, else the first.

    uuid          known from the first open() on, if it was not given
    persistent    the driver stays loaded though nobody uses it; known once it is open
    limit_w       highest power limit that it can be given
    """

    def __init__(self, *, uuid: str, address: str, root: Path, nvml: Any) -> None:
        self.uuid = uuid
        self.persistent = False
        self.limit_w = HIGHEST_W
        self._named, self._address = uuid, address
        self._tree = Tree(root)
        self._nvml = nvml  # pynvml, which has no types, or what stands in for it
        self._handle: Any = None
        self._initialised = False

    @property
    def name(self) -> str:
        return self.uuid or self._address or "gpu0"

    @property
    def opened(self) -> bool:
        return self._handle is not None

    @property
    def may_suspend(self) -> bool:
        """The kernel may power it down while nobody uses it (runtime PM, RTD3)."""
        return self._power("control") == "auto"

    def open(self) -> None:
        """Idempotent. Raises what `translated` makes of NVML's errors, or Refused."""
        if self._handle is not None:
            return
        self._must_be_awake()
        if self._nvml is None:
            self._nvml = importlib.import_module("pynvml")
        nvml = self._nvml
        self._call(nvml.nvmlInit)
        self._initialised = True
        try:
            if self._named:
                handle = self._call(nvml.nvmlDeviceGetHandleByUUID, self._named)
            elif self._address:
                handle = self._call(nvml.nvmlDeviceGetHandleByPciBusId, self._address.encode())
            else:
                handle = self._call(nvml.nvmlDeviceGetHandleByIndex, 0)
            self.uuid = self._call(nvml.nvmlDeviceGetUUID, handle)
        except DriverError:
            self.close()
            raise
        self._handle = handle
        with contextlib.suppress(DriverError):
            self.persistent = bool(self.ask("nvmlDeviceGetPersistenceMode"))
        with contextlib.suppress(DriverError):
            self.limit_w = self.ask("nvmlDeviceGetPowerManagementLimitConstraints")[1] / 1000

    def ask(self, function: str) -> Any:  # what pynvml returns
        """Call pynvml's `function` with the GPU. Raises as `open`."""
        self._must_be_awake()
        return self._call(getattr(self._nvml, function), self._handle)

    def close(self) -> None:
        """Idempotent."""
        self._handle = None
        if self._initialised:
            self._initialised = False
            # It counts its users in this process; the last one lets the driver go.
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _must_be_awake(self) -> None:
        if self._power("runtime_status") == "suspended":
            raise Refused(self.name, "is suspended, and to ask it would wake it")

    def _power(self, file: str) -> str:
        """Of its runtime power management (Documentation/ABI/testing/sysfs-devices-power)."""
        if not self._address:
            return ""
        return self._tree.text(f"sys/bus/pci/devices/{self._address}/power/{file}")

    def _call(self, function: Any, *arguments: Any) -> Any:  # of pynvml, untyped
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise translated(self.name, error) from error


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
