"""simulate: what each policy would have cost, on traces or on this machine's own past."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.commands import terminal
from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.tables import Column, print_table

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.simulation.ladder_file import PriceList
    from appliance.simulation.simulate import Outcome, Simulation, Terms

J_PER = {"kWh": 3.6e6, "Wh": 3600.0, "J": 1.0}
FILE = click.Path(path_type=Path, dir_okay=False)


class Amount(click.FloatRange):
    """From 0 up. `nan` is in no range, but click takes it."""

    def __init__(self, most: float) -> None:
        super().__init__(min=0, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:  # as click has it
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


@click.command()
@click.option(
    "--trace", "traces", metavar="FILE", type=FILE, multiple=True,
    help="Arrivals as CSV; may be repeated. Without it: this machine's own.",
)  # fmt: skip
@click.option(
    "--rungs", metavar="FILE",
    help="Prices as TOML; or h200, desktop or orin. Without it: this machine's own.",
)  # fmt: skip
@click.option(
    "--lambda-w", metavar="W", type=Amount(1e6),
    help="What a waiting person is worth. Without it: power.lambda_w.",
)  # fmt: skip
@click.option(
    "--wake-cap-s", metavar="S", type=Amount(1e9),
    help="breakeven and learned use no depth from which somebody would wait longer; 0: any."
    " Without it: power.wake_cap_s.",
)  # fmt: skip
@click.option("--plot", metavar="FILE.png", type=FILE, help="Draw it, too: a .png, .svg or .pdf.")
@as_json
@with_config
def simulate(
    config: Config,
    json_: bool,
    traces: tuple[Path, ...],
    rungs: str | None,
    lambda_w: float | None,
    wake_cap_s: float | None,
    plot: Path | None,
) -> None:
    """Say what each policy would have cost, and how long people would have waited.

    Replays arrivals through the daemon's own policies, next to an engine that
    is always on as vLLM ships it, to habits, and to the best idle timeout that
    hindsight finds. Without --trace: the requests in the log, or else traces
    that come with wattnap. docs/policies.md says what the figures mean.

    \b
    wattnap simulate
    wattnap simulate --trace day.csv --rungs box.toml --lambda-w 0 --json
    wattnap simulate --rungs desktop --plot desktop.png

    Exit codes: 0 fine · 64 wrong usage · 65 FILE is not what it should be · 66
    FILE cannot be written · 69 no matplotlib · 78 the configuration is wrong.
    """
    from appliance.simulation.data import gather
    from appliance.simulation.simulate import Terms, simulate

    wanted, prices, notes = gather(config, traces, rungs)
    for note in notes:
        terminal.say(note, err=True)
    power = config.power
    terms = Terms(
        lambda_w=power.lambda_w if lambda_w is None else lambda_w,
        vram_w_per_gib=power.hold_vram_w_per_gib,
        ram_w_per_gib=power.hold_ram_w_per_gib,
        wake_cap_s=(power.wake_cap_s if wake_cap_s is None else wake_cap_s) or None,
    )
    found = [simulate(trace, prices, terms) for trace in wanted]
    if json_:
        print_json([simulation.as_dict() for simulation in found])
    else:
        show(found, prices, terms)
    if plot is not None:
        _draw(plot, found, prices, terms)


COMMANDS = (simulate,)


def show(found: Sequence[Simulation], prices: PriceList, terms: Terms) -> None:
    """For people: each trace, the medians of all, and what holds for any."""
    from appliance.simulation.simulate import medians, promises

    terminal.say(f"{prices.title} · a waiting person is worth {terms.lambda_w:g} W")
    for simulation in found:
        hours = simulation.span_s / 3600
        terminal.say(
            f"\n{simulation.trace}: {simulation.idle_periods} idle periods in {hours:.1f} h"
        )
        print_table(_columns(simulation.policies, joules=True))
    if len(found) > 1:
        terminal.say(f"\nmedians of {len(found)} traces")
        print_table(_columns(medians(found), joules=False))
    terminal.say()
    for line in promises(prices, terms):
        terminal.say(line)


def _columns(policies: Mapping[str, Outcome], *, joules: bool) -> list[Column]:
    rows = list(policies.values())
    unit, per = _unit(rows)
    off_j = policies["boost_off"].energy_j if joules and "boost_off" in policies else 0.0
    return [
        Column("policy", policies),
        Column(unit, [_figure(row.energy_j / per) if joules else "" for row in rows], right=True),
        Column("of always on", [f"{row.of_always_on:.1%}" for row in rows], right=True),
        Column(
            "of boost off",
            [f"{row.energy_j / off_j:.1%}" if off_j else "" for row in rows],
            rank=1,
            right=True,
        ),
        Column(
            "× clairvoyant",
            ["" if row.cost_ratio is None else f"{row.cost_ratio:.2f}" for row in rows],
            right=True,
        ),
        Column("waited", [f"{row.cold_share:.1%}" for row in rows], right=True),
        Column("p50 s", [f"{row.wait_p50_s:.1f}" for row in rows], rank=3, right=True),
        Column("p99 s", [f"{row.wait_p99_s:.1f}" for row in rows], rank=2, right=True),
        Column("longest s", [f"{row.wait_max_s:.1f}" for row in rows], rank=3, right=True),
        Column("wakes/day", [f"{row.wakes_per_day:.1f}" for row in rows], rank=2, right=True),
    ]


def _unit(rows: Sequence[Outcome]) -> tuple[str, float]:
    most_j = max(row.energy_j for row in rows)
    return next((unit, per) for unit, per in J_PER.items() if most_j >= per or per == 1.0)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _draw(path: Path, found: Sequence[Simulation], prices: PriceList, terms: Terms) -> None:
    from appliance.simulation.plot import draw

    try:
        draw(path, found, f"{prices.title}, a waiting person worth {terms.lambda_w:g} W")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--plot") from error
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error
