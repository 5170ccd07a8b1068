"""What a smart plug publishes over MQTT, as watts and joules. Parsing only, no connection.

Two shapes are known, and told apart by what is in them:

    Tasmota      tele/<topic>/SENSOR, or stat/<topic>/STATUS10 when asked
                 {"Time": …, "ENERGY": {"Total": kWh, "Power": W, …}}; with several phases
                 either may be a list (tasmota.github.io/docs, "Power Monitoring")
    Shelly       <prefix>/status/switch:0 or pm1:0, generation 2 and later
                 {"apower": W, "aenergy": {"total": Wh, …}, …} (shelly-api-docs.shelly.cloud)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from drivers.errors import BadReading

LARGEST_BYTES = 16 * 1024  # a Tasmota with many sensors sends less than two

J_PER_WH = 3600.0
J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class PlugReading:
    """One message.

    energy_j  its counter
    step_j    the least that this counter can show, by its digits
    power_w   None: it did not say
    """

    energy_j: float
    step_j: float
    power_w: float | None


def read_message(device: str, payload: bytes) -> PlugReading:
    """Raises BadReading, with the reason, for anything that is not one of the two."""
    if len(payload) > LARGEST_BYTES:
        raise BadReading(device, f"publishes {len(payload)} bytes at once")
    try:
        # As decimals, because their digits tell the counter's step.
        said = json.loads(payload, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadReading(device, f"publishes {payload[:60]!r}, not JSON: {error}") from error
    match said:
        case {"StatusSNS": {"ENERGY": {"Total": total, **rest}}}:
            unit_j, power = J_PER_KWH, rest.get("Power")
        case {"ENERGY": {"Total": total, **rest}}:
            unit_j, power = J_PER_KWH, rest.get("Power")
        case {"aenergy": {"total": total}, **rest}:
            unit_j, power = J_PER_WH, rest.get("apower")
        case _:
            raise BadReading(
                device, f"publishes {payload[:60]!r}, neither a Tasmota's energy nor a Shelly's"
            )
    energy, digits = _sum(device, total)
    return PlugReading(
        energy_j=energy * unit_j,
        step_j=unit_j / 10**digits,
        power_w=None if power is None else _sum(device, power)[0],
    )


def _sum(device: str, value: Any) -> tuple[float, int]:  # as JSON has it
    """Of one number or of a list of them, and how many digits it has after the point."""
    values = value if isinstance(value, list) else [value]
    total, digits = 0.0, 0
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | Decimal):
            raise BadReading(device, f"says {each!r} where a number belongs")
        places = -int(each.as_tuple().exponent) if isinstance(each, Decimal) else 0
        digits = max(digits, min(places, 9))
        try:
            total += float(each)
        except OverflowError as error:  # an integer of hundreds of digits
            raise BadReading(device, "says a number that is none") from error
    if not values or not math.isfinite(total) or total < 0:
        raise BadReading(device, f"says {value!r} where a number of 0 or more belongs")
    return total, digits


def _refuse(word: str) -> NoReturn:
    """NaN and Infinity are no JSON, though Python would take them."""
    raise ValueError(f"{word} is no number")
