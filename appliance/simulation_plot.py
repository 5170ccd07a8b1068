"""A picture of a simulation: what each policy takes, against how often people wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.plotting import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY, picture
from appliance.simulation import Simulation, medians

LOOKS = {
    "always_on": ("always on, as vLLM ships", GREY, "s"),
    "boost_off": ("always on, boost off", SKY, "s"),
    "five_minutes": ("rest after five minutes", ORANGE, "v"),
    "at_once": ("rest at once", RED, "^"),
    "best_fixed": ("best timeout, in hindsight", GREEN, "D"),
    "breakeven": ("breakeven", PINK, "o"),
    "learned": ("learned", BLUE, "o"),
}


def draw(path: Path, found: Sequence[Simulation], title: str) -> None:
    """A small dot for each trace, a large one for the median of all.

    Raises as `appliance.plotting.picture` does.
    """
    middle = medians(found)
    with picture(path, height_in=5.5) as figure:
        (axes,) = figure.axes
        for name, outcome in middle.items():
            label, colour, marker = LOOKS[name]
            if len(found) > 1:
                rows = [simulation.policies[name] for simulation in found]
                axes.scatter(
                    [100 * row.cold_share for row in rows],
                    [100 * row.of_always_on for row in rows],
                    s=16, color=colour, marker=marker, alpha=0.45, linewidths=0, clip_on=False,
                )  # fmt: skip
            axes.scatter(
                [100 * outcome.cold_share], [100 * outcome.of_always_on],
                s=110, color=colour, marker=marker, edgecolor=INK, linewidths=0.8, zorder=3,
                clip_on=False, label=label,
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("requests of people who waited for the engine, %")
        axes.set_ylabel("energy of the idle periods, % of always on")
        many = f"medians of {len(found)} traces" if len(found) > 1 else found[0].trace
        axes.set_title(f"{many}: {title}")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, ncols=4, loc="outside lower left")
