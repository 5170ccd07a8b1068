"""meter list, meter fit: which meters there are, and how one is corrected by a plug."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.commands import terminal
from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.tables import Column, print_table

if TYPE_CHECKING:
    from appliance.config import Config, MeterKind
    from appliance.energy.fitting import Fit, Load
    from appliance.energy.meter_list import Listed, Looks

FITTED = ("nvml", "nvml_power", "ina3221", "rapl", "cpu_time")


@click.group("meter")
def meter() -> None:
    """Say what counts the joules here, and make it count better.

    \b
    wattnap meter list
    wattnap meter fit --help

    Exit codes: 0 fine · 78 the configuration is wrong.
    """


@meter.command("list")
@as_json
@with_config
def list_(config: Config, json_: bool) -> None:
    """List the meters: which are here, which bills, what others lack.

    Looks at each twice, a second apart; wakes no GPU that sleeps. For the
    service's user, who may read other things: `sudo -u wattnap wattnap meter
    list`.

    \b
    wattnap meter list
    wattnap meter list --json | jq '.meters[] | select(.use == "bills")'

    Exit codes: 0 fine · 78 the configuration is wrong.
    """
    from appliance.energy.meter_list import list_meters

    meters = list_meters(config)
    if json_:
        print_json({"meters": meters})
        return
    columns = [
        Column("meter", (found.kind for found in meters)),
        Column("state", (found.state for found in meters)),
        Column("use", (found.use for found in meters)),
        Column("W now", (_watts(found.power_w) for found in meters), right=True),
        Column("kind", (found.source for found in meters), rank=1),
        Column("looked at", (_cadence(found.cadence) for found in meters), rank=4),
        Column("fit", (_corrected(found) for found in meters), rank=2),
        Column("device", (terminal.harmless(found.device) for found in meters), rank=3),
        Column("rails", (", ".join(found.rails) for found in meters), rank=5),
    ]
    print_table(columns)
    said = [found for found in meters if found.says]
    if said:
        terminal.say()
    for found in said:
        terminal.say(f"{found.kind}: {found.says}")
    if not any(found.use == "bills" for found in meters):
        terminal.say('energy.meter is "none": no joules are counted')


@meter.command()
@click.argument("kind", type=click.Choice(FITTED), required=False)
@click.option(
    "--seconds", type=click.FloatRange(min=10, max=3600), default=120.0, show_default=True,
    help="How long each of the two loads is measured.",
)  # fmt: skip
@click.option(
    "--settle", "settle_s", type=click.FloatRange(min=0, max=600), default=15.0,
    show_default=True, help="How long each is let be before: plugs and sensors lag.",
)  # fmt: skip
@click.option("--load", metavar="COMMAND", help="What makes the second load; ended afterwards.")
@click.option(
    "--low", "low_w", type=(float, float), metavar="METER_W PLUG_W",
    help="The first load, read off by hand; nothing is measured.",
)  # fmt: skip
@click.option("--high", "high_w", type=(float, float), metavar="METER_W PLUG_W", help="The second.")
@as_json
@with_config
def fit(
    config: Config,
    json_: bool,
    kind: MeterKind | None,
    seconds: float,
    settle_s: float,
    load: str | None,
    low_w: tuple[float, float] | None,
    high_w: tuple[float, float] | None,
) -> None:
    """Find gain and offset of a meter from a smart plug, at two loads.

    KIND is nvml, nvml_power, ina3221, rapl or cpu_time; without it, the one
    that bills. The plug is the one of energy.plug_topic; nothing but this box
    may hang on it. First the box is measured idle, then under a load that holds
    still. What is printed goes into wattnap.toml; nothing is changed here.

    \b
    wattnap meter fit                              # asks for the loads
    wattnap meter fit nvml --load 'gpu-burn 300'   # asks nothing
    wattnap meter fit nvml --low 79 143 --high 412 535   # of a plug with a display

    Exit codes: 0 fine · 64 wrong usage · 65 the loads give no line, or cannot
    be measured · 78 the configuration is wrong · 130 interrupted.
    """
    from appliance.energy.fitting import Load
    from appliance.energy.fitting import fit as find_fit

    chosen = kind or _billing(config)
    if low_w is not None and high_w is not None and load is None:
        low, high = (Load(meter_w=one, plug_w=other) for one, other in (low_w, high_w))
        found = find_fit(low, high)
    elif low_w is not None or high_w is not None:
        raise click.UsageError("Give both --low and --high, or neither; and no --load with them.")
    else:
        from appliance.commands.loads import measured

        low, high, found = measured(config, chosen, load, seconds=seconds, settle_s=settle_s)
    if json_:
        print_json({"meter": chosen, "low": low, "high": high, "fit": found})
        return
    _show(config, chosen, low, high, found)


COMMANDS = (meter,)


def _billing(config: Config) -> MeterKind:
    from appliance.energy.meter_list import billing_kind

    kind = billing_kind(config)
    if kind is None or kind not in FITTED:
        raise click.UsageError(f"Name a KIND: {', '.join(FITTED)}.")
    return kind


def _show(config: Config, kind: MeterKind, low: Load, high: Load, found: Fit) -> None:
    for name, load in (("low", low), ("high", high)):
        line = f"{name:4}  {kind} {load.meter_w:8.2f} W   plug {load.plug_w:8.2f} W"
        if load.messages:
            line += f"   {load.messages} messages in {load.seconds:.0f} s"
        terminal.say(line)
    known = bool(low.messages)
    gain = f"gain {found.gain:.4g}" + (f" ± {found.gain_error:.2g}" if known else "")
    offset = f"offset {found.offset_w:.4g} W" + (f" ± {found.offset_error_w:.2g}" if known else "")
    terminal.say(f"{gain}, {offset}")
    terminal.say("\nInto wattnap.toml, then restart the daemon:\n")
    terminal.say("[energy]")
    for key, value in (("gain", found.gain), ("offset_w", found.offset_w)):
        values = getattr(config.energy, key) | {kind: value}
        told = ", ".join(f"{name} = {number:.4g}" for name, number in values.items())
        terminal.say(f"{key} = {{ {told} }}")


def _watts(power_w: float | None) -> str:
    return "" if power_w is None else f"{power_w:.1f}"


def _cadence(cadence: Looks | None) -> str:
    if cadence is None:
        return ""
    return f"{cadence.busy_s:g} s busy, {cadence.idle_s:g} s idle, {cadence.rest_s:g} s at rest"


def _corrected(found: Listed) -> str:
    if (found.gain, found.offset_w) == (1.0, 0.0):
        return ""
    return f"× {found.gain:g} + {found.offset_w:g} W"
