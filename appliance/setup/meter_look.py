"""Whether the meter that is to bill can be read, and by whom. Wakes no GPU, waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config import Config, MeterKind
from appliance.energy.metering import build_meter
from appliance.errors import ConfigError
from drivers.errors import DriverError, NotPermitted, NotSupported, Refused
from drivers.permissions import Account, may_read_file
from drivers.probe import Machine
from drivers.rapl import counters

MEASURING: tuple[MeterKind, ...] = ("nvml", "ina3221", "rapl")
"""In the order in which "auto" tries them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFailure:
    """Why one cannot be read, in words.

    forbidden  it is there, but not for that user
    unable     it is there, and cannot do that
    """

    says: str
    forbidden: bool = False
    unable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetersSeen:
    """kind      that bills, as far as can be told; None: joules are not counted
    unasked   it was not looked at, because of this
    failures  of those that were to be read, or that "auto" would rather have
    """

    kind: MeterKind | None = None
    unasked: str = ""
    failures: Mapping[MeterKind, MeterFailure]


def look_at_meters(
    config: Config,
    machine: Machine,
    *,
    account: Account,
    root: Path,
    nvml: Any,  # pynvml, which has no types, or what stands in for it
    nvml_unasked: str = "",
) -> MetersSeen:
    """`nvml_unasked`: NVML is not to be opened, because of this."""
    energy = config.energy
    failures: dict[MeterKind, MeterFailure] = {}

    def is_here(kind: MeterKind) -> bool:
        if kind in {"nvml", "nvml_power"} and nvml_unasked:
            return True
        try:
            _open(kind, config, machine, account, root, nvml)
        except Refused:
            return True
        except (ConfigError, DriverError) as error:
            failures[kind] = MeterFailure(
                says=str(error),
                forbidden=isinstance(error, NotPermitted),
                unable=isinstance(error, NotSupported),
            )
            return False
        return True

    billing: MeterKind | None
    match energy.meter:
        case "none":
            billing = None
        case "auto":
            likely = [k for k in MEASURING if k in {machine.meter, "rapl"}]
            billing = next((k for k in likely if is_here(k)), "cpu_time")
        case kind:
            billing = kind
            is_here(kind)
    for other in energy.also:
        is_here(other)
    unasked = nvml_unasked if billing in {"nvml", "nvml_power"} else ""
    return MetersSeen(kind=billing, unasked=unasked, failures=failures)


def _open(
    kind: MeterKind,
    config: Config,
    machine: Machine,
    account: Account,
    root: Path,
    nvml: Any,  # as above
) -> None:
    """Raises what it raises, or NotPermitted for another user than this one."""
    meter = build_meter(kind, config, machine, root, nvml=nvml)
    if kind == "rapl":
        for counter in counters(root):
            if not may_read_file(counter, account):
                raise NotPermitted(meter.name, f"user {account.name} may not read {counter}")
    meter.open()
    meter.close()
