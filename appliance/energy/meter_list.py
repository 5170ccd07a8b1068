"""Which meters this machine has, which one bills, and what the others lack. Wakes no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from msgspec import Struct

from appliance.config import Config, MeterKind
from appliance.energy.metering import build_meter, first_that_is_here
from appliance.errors import ConfigError
from drivers.errors import BadReading, DriverError, NotPermitted, Refused, Unresponsive
from drivers.plug import PlugMeter
from drivers.probe import probe
from drivers.protocols import Cadence, Meter, Sample

LOOK_S = 1.0
"""Between the two looks of which the power is told: NVML's mean is of one second."""


class Looks(Struct, frozen=True):
    """How often the daemon looks, in seconds between two looks."""

    busy_s: float
    idle_s: float
    rest_s: float


class Listed(Struct, frozen=True, kw_only=True):
    """One meter.

    state     "here"; "asleep": its GPU is, and is left so; "silent": it is heard over MQTT, or
              did not answer now; "forbidden": here, but not for this user; "absent"
    use       "bills", "beside" or ""
    says      why it is not simply here, and the remedy
    power_w   now, as it counts, without gain and offset
    """

    kind: MeterKind
    state: str
    use: str
    says: str = ""
    device: str = ""
    source: str = ""
    rails: tuple[str, ...] = ()
    cadence: Looks | None = None
    power_w: float | None = None
    gain: float = 1.0
    offset_w: float = 0.0


def list_meters(
    config: Config, *, root: Path = Path("/"), pause: Callable[[float], object] = time.sleep
) -> list[Listed]:
    """All kinds there are, in the order of preference."""
    machine, energy = probe(root), config.energy
    bills = billing_kind(config, root=root)
    meters: dict[MeterKind, Meter] = {}
    failures: dict[MeterKind, Exception] = {}
    begun: dict[MeterKind, Sample] = {}
    kinds: tuple[MeterKind, ...] = get_args(MeterKind)
    for kind in kinds:
        try:
            meters[kind] = meter = build_meter(kind, config, machine, root)
            meter.open()
            begun[kind] = meter.sample()
        except (ConfigError, DriverError) as error:
            failures[kind] = error
    if begun:
        pause(LOOK_S)
    powers_w = {kind: _power_w(meters[kind], sample) for kind, sample in begun.items()}
    open_ = {kind: meters[kind] for kind in begun}
    return [
        Listed(
            kind=kind,
            state=_state(failures.get(kind)),
            use="bills" if kind == bills else "beside" if kind in energy.also else "",
            says=_says(meters.get(kind), failures.get(kind)),
            power_w=powers_w.get(kind),
            gain=energy.gain.get(kind, 1.0),
            offset_w=energy.offset_w.get(kind, 0.0),
            device=open_[kind].device if kind in open_ else "",
            source=open_[kind].source if kind in open_ else "",
            rails=open_[kind].rails if kind in open_ else (),
            cadence=_cadence(open_[kind].cadence) if kind in open_ else None,
        )
        for kind in kinds
    ]


def billing_kind(config: Config, *, root: Path = Path("/")) -> MeterKind | None:
    """None: no joules are counted."""
    match config.energy.meter:
        case "none":
            return None
        case "auto":
            return first_that_is_here(config, probe(root), root)
        case kind:
            return kind


def _power_w(meter: Meter, begun: Sample) -> float | None:
    try:
        now = meter.sample()
    except DriverError:
        return None
    finally:
        meter.close()
    if now.epoch != begun.epoch or now.at_s <= begun.at_s:
        return None
    return (now.energy_j - begun.energy_j) / (now.at_s - begun.at_s)


def _cadence(look: Cadence) -> Looks:
    return Looks(1 / look.busy_hz, look.idle_s, look.rest_s)


def _state(failure: Exception | None) -> str:
    match failure:
        case None:
            return "here"
        case Refused():
            return "asleep"
        case NotPermitted():
            return "forbidden"
        case Unresponsive() | BadReading():
            return "silent"
    return "absent"


def _says(meter: Meter | None, failure: Exception | None) -> str:
    if isinstance(meter, PlugMeter):
        return f"is heard at {meter.topic}, by the daemon; see `wattnap ledger export meters`"
    return "" if failure is None else str(failure)
