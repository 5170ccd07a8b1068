"""What only NVML knows of a GPU that is awake: persistence mode, and who holds its clocks.

Opening NVML starts a GPU that was off and keeps its driver loaded: whoever calls has
made sure that this does no harm.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BY_SETTING = 2  # nvmlClocksEventReasonApplicationsClocksSetting (nvml.h)
HIGH = 0.8  # of its highest clock. An idle GPU without a lock is far below (H200: 345 of 1980)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlFacts:
    """One GPU.

    persistence  its persistence mode is on; None if it would not say
    pinned       what holds its clocks, in words; "" if nothing does
    """

    persistence: bool | None = None
    pinned: str = ""


def look(uuid: str = "", nvml: Any = None) -> NvmlFacts | str:
    """Open NVML, ask, close. Returns why not, in words, if it could not.

    uuid  of the GPU; "": the first
    nvml  pynvml, which has no types, or what stands in for it
    """
    nvml = nvml or importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return f"NVML cannot be opened: {error}"
    try:
        handle = (
            nvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else nvml.nvmlDeviceGetHandleByIndex(0)
        )
        return _facts(nvml, handle)
    except nvml.NVMLError as error:
        return f"NVML does not know the GPU: {error}"
    finally:
        with contextlib.suppress(nvml.NVMLError):  # there is nothing left to do about it
            nvml.nvmlShutdown()


def driver_stays() -> bool:
    """The driver stays loaded and the GPU on, whether anybody uses it or not."""
    facts = look()
    return isinstance(facts, NvmlFacts) and facts.persistence is True


def _facts(nvml: Any, handle: Any) -> NvmlFacts:  # pynvml and its handle, untyped
    def asked(function: str, *arguments: Any) -> Any:  # of pynvml
        """None where this GPU or driver cannot say."""
        try:
            read: Callable[..., Any] = getattr(nvml, function)
            return read(handle, *arguments)
        except (AttributeError, nvml.NVMLError):
            return None

    persistence = asked("nvmlDeviceGetPersistenceMode")
    set_mhz = asked("nvmlDeviceGetApplicationsClock", nvml.NVML_CLOCK_SM)
    default_mhz = asked("nvmlDeviceGetDefaultApplicationsClock", nvml.NVML_CLOCK_SM)
    reasons = asked("nvmlDeviceGetCurrentClocksEventReasons")
    now_mhz = asked("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
    max_mhz = asked("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM)
    processes = asked("nvmlDeviceGetComputeRunningProcesses")
    pinned = ""
    if set_mhz and default_mhz and set_mhz != default_mhz:
        pinned = f"application clocks are set to {set_mhz} MHz, not {default_mhz} MHz"
    elif reasons is not None and reasons & BY_SETTING:
        pinned = "a setting of application or locked clocks holds them"
    elif processes == [] and now_mhz and max_mhz and now_mhz >= HIGH * max_mhz:
        pinned = f"at {now_mhz} of {max_mhz} MHz though nobody computes: they seem locked"
    return NvmlFacts(persistence=None if persistence is None else bool(persistence), pinned=pinned)
