"""Pictures of an account: joules over time, by what they went into, by whom, and what was saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from appliance.reports.plotting import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, picture
from appliance.reports.tally import PARTS, Part, Row, column, part_j

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from appliance.reports.accounts import Account

WH, KWH = 3600.0, 3.6e6

FEW = 60
"""So many bars are told apart by lines between them; more of them would be mostly lines."""

MOST_BARS = 20
"""So many clients have a bar of their own."""

UNMEASURED = 0.05
"""Share of an hour or a day from which on it is marked."""


COLOURS: dict[Part, str] = {
    "resting": GREEN,
    "awake, idle": ORANGE,
    "not known for what": PINK,
    "waking, going to rest": RED,
    "requests": BLUE,
}

THREE = {
    "as_shipped": ("as vLLM ships", GREY),
    "always_awake": ("boost off, always awake", ORANGE),
    "ladder": ("the ladder", BLUE),
}


def draw_energy(path: Path, account: Account, by: str, title: str, currency: str) -> None:
    """Raises as `appliance.reports.plotting.picture` does."""
    total = account.total
    told = _sum(total.get("energy_j", total.get("full_j")), total["cost"], currency)
    if by in {"hour", "day"}:
        with picture(path) as figure:
            (axes,) = figure.axes
            _draw_times(axes, account.rows, by)
            axes.set_title(f"{title}\n{told}")
        return
    bars = _named_bars(account.rows, by)
    with picture(path, height_in=max(2.5, 1.2 + 0.36 * len(bars))) as figure:
        (axes,) = figure.axes
        _draw_bars(axes, bars)
        axes.set_title(f"{title}\n{told}")


def draw_savings(path: Path, account: Account, title: str) -> None:
    """Raises as `appliance.reports.plotting.picture` does."""
    rows = _by_time(account.rows, "day", [f"{name}_j" for name in THREE])
    unit, per = _unit(value for row in rows.values() for value in row.values())
    with picture(path) as figure:
        (axes,) = figure.axes
        known = [name for name in THREE if account.total[f"{name}_j"] is not None]
        for name, (label, colour) in THREE.items():
            whole_j = account.total[f"{name}_j"]
            if whole_j is None:
                axes.bar([], [], color=colour, label=f"{label}: not known")
                continue
            aside = (known.index(name) - (len(known) - 1) / 2) / 4
            days = [_start(day) + aside for day in rows]
            heights = [row[f"{name}_j"] / per for row in rows.values()]
            said = f"{_figure(whole_j / per)} {unit}"
            axes.bar(days, heights, width=0.25, color=colour, label=f"{label}: {said}")
        _date_axis(axes, by="day")
        axes.set_ylabel(f"{unit} a day")
        axes.set_title(title)
        _legend_below(axes)


def _draw_times(axes: Axes, rows: Sequence[Row], by: str) -> None:
    keys = [key for columns in PARTS.values() for key in columns]
    found = _by_time(rows, by, [*keys, "seconds", "unmeasured_s"])
    heights = {part: [part_j(row, part) for row in found.values()] for part in PARTS}
    unit, per = _unit(map(sum, zip(*heights.values(), strict=True)))
    # A day's label stands below its bar, an hour's where it begins.
    align: Literal["center", "edge"] = "center" if by == "day" else "edge"
    line = 0.5 if len(found) <= FEW else 0.0
    starts, widths = [_start(at) for at in found], [_width(at) for at in found]
    bottom = [0.0] * len(starts)
    for part, heights_j in heights.items():
        if any(heights_j):
            tall = [height / per for height in heights_j]
            axes.bar(
                starts, tall, width=widths, bottom=bottom, align=align, color=COLOURS[part],
                label=part, edgecolor="white", linewidth=line,
            )  # fmt: skip
            bottom = [low + height for low, height in zip(bottom, tall, strict=True)]
    _mark_unmeasured(axes, found, -0.5 if by == "day" else 0.0)
    _date_axis(axes, by=by)
    axes.set_ylabel(f"{unit} each {by}")
    _legend_below(axes)


def _mark_unmeasured(
    axes: Axes, found: Mapping[str, Mapping[str, float]], shift_days: float
) -> None:
    label: str | None = "partly not measured"
    for at, row in found.items():
        if row["unmeasured_s"] > UNMEASURED * row["seconds"]:
            start = _start(at) + shift_days
            axes.axvspan(
                start, start + _width(at), facecolor="none", edgecolor=GREY, hatch="///",
                linewidth=0, zorder=0, label=label,
            )  # fmt: skip
            label = None


def _by_time(rows: Sequence[Row], by: str, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of all engines and devices together."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        sums = found.setdefault(row[by], dict.fromkeys(keys, 0.0))
        for key in keys:
            sums[key] += row[key] or 0.0
    return found


def _start(at: str) -> float:
    """As matplotlib counts days, of what the clock on the wall showed."""
    from matplotlib.dates import date2num

    if "T" in at:
        here: date = datetime.fromisoformat(at).astimezone().replace(tzinfo=None)
    else:
        here = date.fromisoformat(at)
    return float(date2num(here))  # type: ignore[no-untyped-call]


def _width(at: str) -> float:
    """In days."""
    return 1 / 24 if "T" in at else 1.0


def _date_axis(axes: Axes, *, by: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.margins(x=0.01)
    locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]
    if by == "day":
        locator.intervald[4] = [24]  # no ticks within a day: HOURLY is 4 (dateutil.rrule)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


class Bar(NamedTuple):
    name: str
    parts: list[tuple[str, float, str]]  # label, joules, colour
    text: str


def _named_bars(rows: Sequence[Row], by: str) -> list[Bar]:
    """From the top down."""
    if by in {"depth", "line"}:
        return [
            Bar(
                f"{row['depth']}, {row['line']}" if by == "depth" else row["line"],
                [("", row["energy_j"] or 0.0, _colour(row))],
                "not measured" if row["energy_j"] is None else f"{row['share']:.1%}",
            )
            for row in rows
        ]
    rows = sorted(rows, key=lambda row: -(row["full_j"] or 0.0))
    bars = [_request_bar(row[by] or "(none)", [row]) for row in rows[:MOST_BARS]]
    if others := rows[MOST_BARS:]:
        bars.append(_request_bar(f"{len(others)} others", others))
    return bars


def _colour(row: Row) -> str:
    key = column(row["line"], row.get("depth", "awake"))
    return next(COLOURS[part] for part, keys in PARTS.items() if key in keys)


def _request_bar(name: str, rows: Sequence[Row]) -> Bar:
    marginal_j = sum(row["marginal_j"] or 0.0 for row in rows)
    full_j = sum(row["full_j"] or 0.0 for row in rows)
    tokens = sum(row["completion_tokens"] for row in rows)
    per_token = f"{_figure(1000 * full_j / tokens)} J / 1000 tokens" if tokens and full_j else ""
    shown = "".join(character if character.isprintable() else "?" for character in name)
    return Bar(
        shown if len(shown) <= 30 else f"{shown[:29]}…",
        [("requests", marginal_j, BLUE), ("their wakes and tails", full_j - marginal_j, RED)],
        per_token,
    )


def _draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    unit, per = _unit(sum(joules for _, joules, _ in bar.parts) for bar in bars)
    labelled: set[str] = set()
    for place, bar in enumerate(bars):
        left = 0.0
        for label, joules, colour in bar.parts:
            new = label and label not in labelled
            labelled.add(label)
            axes.barh(
                place, joules / per, left=left, height=0.7, color=colour,
                label=label if new else None,
            )  # fmt: skip
            left += joules / per
        axes.annotate(
            f" {bar.text}", (left, place), va="center", color=INK, fontsize=9,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure = axes.get_figure()
        assert figure is not None
        figure.legend(handles, names, ncols=len(names), loc="outside lower left")


def _unit(values_j: Iterable[float]) -> tuple[str, float]:
    most_j = max(values_j, default=0.0)
    return next(
        (u, per) for u, per in (("kWh", KWH), ("Wh", WH), ("J", 1.0)) if most_j >= per or per == 1
    )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _sum(energy_j: float | None, cost: float | None, currency: str) -> str:
    if energy_j is None:
        return "not measured"
    unit, per = _unit([energy_j])
    return f"{_figure(energy_j / per)} {unit}" + (
        "" if cost is None else f" · {cost:.2f} {currency}"
    )
