"""A picture of a simulation: what policies take, how often people wait, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance.reports.plotting import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY, picture
from appliance.simulation.simulate import Outcome, Simulation, medians

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES = 40
"""So many traces are named; more of them are lines that only show how they spread."""


TICKS = tuple(digit * 10**power for power in range(9) for digit in (1, 2, 5))


class Look(NamedTuple):
    label: str
    colour: str
    marker: str


LOOKS = {
    "always_on": Look("always on, as vLLM ships", GREY, "s"),
    "boost_off": Look("always on, boost off", SKY, "s"),
    "five_minutes": Look("after five minutes", ORANGE, "v"),
    "at_once": Look("at once", RED, "^"),
    "best_fixed": Look("best timeout, in hindsight", GREEN, "D"),
    "breakeven": Look("breakeven", PINK, "o"),
    "learned": Look("learned", BLUE, "o"),
}


class Row(NamedTuple):
    name: str
    outcomes: dict[str, Outcome]


def draw(path: Path, found: Sequence[Simulation], title: str) -> None:
    """A line for each trace, and one for the medians.

    Raises as `appliance.reports.plotting.picture` does.
    """
    rows = [Row(Path(simulation.trace).stem, simulation.policies) for simulation in found]
    if len(found) > 1:
        rows.append(Row(f"median of {len(found)}", medians(found)))
    line_in = 0.29 if len(rows) <= MOST_NAMES else 12.0 / len(rows)
    height_in = 1.9 + line_in * len(rows)
    ratios = [o.cost_ratio for row in rows for o in row.outcomes.values() if o.cost_ratio]
    columns = 3 if ratios else 2  # where the clairvoyant pays nothing, nobody is compared with him
    with picture(path, width_in=10.0, height_in=height_in, columns=columns) as figure:
        energy, waited, *costs = figure.axes
        _draw(energy, rows, lambda outcome: 100 * outcome.of_always_on)
        energy.set_xlim(left=0)
        energy.set_xlabel("energy of idle periods,\n% of always on")
        _draw(waited, rows, lambda outcome: 100 * outcome.cold_share)
        waited.set_xlim(0, 100)
        waited.set_xlabel("requests that waited for\nthe engine to wake, %")
        for cost in costs:
            _draw_costs(cost, rows, max(ratios))
        energy.set_yticks(range(len(rows)) if len(rows) <= MOST_NAMES else [len(rows) - 1])
        energy.set_yticklabels(
            [row.name for row in rows] if len(rows) <= MOST_NAMES else [rows[-1].name]
        )
        for axes in (waited, *costs):
            axes.set_yticks([])
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
        handles, names = energy.get_legend_handles_labels()
        figure.legend(handles, names, ncols=4, loc="outside lower left")


def _draw_costs(axes: Axes, rows: Sequence[Row], most: float) -> None:
    _draw(axes, rows, lambda outcome: outcome.cost_ratio)
    axes.set_xscale("log")
    ticks = [tick for tick in TICKS if tick <= most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.95, 1.15 * most)
    axes.set_xlabel("cost with waiting,\n× clairvoyant")


def _draw(axes: Axes, rows: Sequence[Row], figure: Callable[[Outcome], float | None]) -> None:
    """The first row on top; the last, where there are several, set apart."""
    for line, row in enumerate(rows):
        axes.axhline(line, color=INK if _whole(rows, line) else GREY, linewidth=0.5, alpha=0.5)
        for name, outcome in row.outcomes.items():
            value = figure(outcome)
            if value is None:
                continue
            label, colour, marker = LOOKS[name]
            axes.scatter(
                [value], [line], s=80 if _whole(rows, line) else 42, color=colour, marker=marker,
                edgecolor=INK, linewidths=0.5, clip_on=False, zorder=3,
                label=label if line == 0 else None,
            )  # fmt: skip
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _whole(rows: Sequence[Row], line: int) -> bool:
    return line == len(rows) - 1 > 0
