"""The meters that the configuration names, opened once to see that they are here.

Part of the composition root, beside `app`: it names concrete drivers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from appliance.config import Config, MeterKind
from appliance.errors import ConfigError
from drivers.cpu_time import CpuTimeMeter
from drivers.errors import DriverError, Refused
from drivers.fitted import Fitted
from drivers.meters import Meters
from drivers.plug import PlugMeter
from drivers.probe import Machine, probe
from drivers.protocols import Meter

log = logging.getLogger(__name__)


def build_meters(config: Config, *, root: Path = Path("/")) -> Meters | None:
    """The one that bills, and those beside it; None where joules are not counted.

    Raises ConfigError if the one that was named to bill is not here. Others that are not
    are tried again now and then.
    """
    energy, machine = config.energy, probe(root)
    if energy.meter == "none":
        if energy.also:
            raise ConfigError('energy.also: nothing is billed; set energy.meter, or "auto"')
        return None
    if energy.meter == "auto":
        kind = first_that_is_here(config, machine, root)
        billing = _build(kind, config, machine, root)
    else:
        kind, billing = energy.meter, _build(energy.meter, config, machine, root)
        if error := missing(billing):
            raise ConfigError(f"energy.meter: {error}") from error
    others = []
    for other in dict.fromkeys(energy.also):
        if other == kind:
            raise ConfigError(f"energy.also: {other} bills already")
        others.append(_build(other, config, machine, root))
        if error := missing(others[-1]):
            log.warning("energy.also: %s", error)
    return Meters(billing, others)


def plugs(meters: Meters | None) -> Iterator[PlugMeter]:
    """Those of them that have to be handed what the broker brings."""
    for each in (meters.billing, *meters.others) if meters else ():
        meter = each.meter if isinstance(each, Fitted) else each
        if isinstance(meter, PlugMeter):
            yield meter


def first_that_is_here(config: Config, machine: Machine, root: Path) -> MeterKind:
    """What "auto" stands for."""
    wanted: dict[MeterKind, bool] = {
        "nvml": machine.meter == "nvml",
        "ina3221": machine.meter == "ina3221",
        "rapl": True,
    }
    for kind, likely in wanted.items():
        if likely:
            if not (error := missing(build_meter(kind, config, machine, root))):
                return kind
            log.info("no joules from %s", error)
    log.info("energy is estimated from CPU time")
    return "cpu_time"


def missing(meter: Meter) -> DriverError | None:
    """Why it cannot be read, if that is so. A GPU that is suspended is left so, and is here."""
    try:
        meter.open()
    except Refused:
        return None
    except DriverError as error:
        return error
    meter.close()
    return None


def _build(kind: MeterKind, config: Config, machine: Machine, root: Path) -> Meter:
    """Corrected, if the configuration says how."""
    meter, energy = build_meter(kind, config, machine, root), config.energy
    if kind not in energy.gain and kind not in energy.offset_w:
        return meter
    return Fitted(meter, gain=energy.gain.get(kind, 1.0), offset_w=energy.offset_w.get(kind, 0.0))


def build_meter(
    kind: MeterKind,
    config: Config,
    machine: Machine,
    root: Path,
    *,
    nvml: Any = None,  # pynvml, which has no types, or what stands in for it
) -> Meter:
    """As it is. Raises ConfigError if the configuration lacks what it needs."""
    energy = config.energy
    # A Jetson's GPU has no address on the PCI bus.
    on_bus = machine.gpus if machine.jetson is None else ()
    address = on_bus[0].address if on_bus else ""
    match kind:
        case "nvml" | "nvml_power":
            from drivers.nvml import NvmlMeter

            by: Literal["counter", "power"] = "counter" if kind == "nvml" else "power"
            return NvmlMeter(by, address=address, root=root, nvml=nvml)
        case "ina3221":
            from drivers.ina3221 import Ina3221Meter

            return Ina3221Meter(total=energy.rails, root=root)
        case "rapl":
            from drivers.rapl import RaplMeter

            return RaplMeter(root=root)
        case "plug":
            if not energy.plug_topic:
                raise ConfigError("energy.plug_topic: which topic does the plug publish under?")
            if not config.mqtt.enabled:
                raise ConfigError("mqtt.enabled: a plug is heard over MQTT only")
            return PlugMeter(energy.plug_topic)
        case "cpu_time":
            return CpuTimeMeter(
                core_w=energy.estimate_core_w, idle_w=energy.estimate_idle_w, root=root
            )
