"""What an account looks like to people: tables with bars, a sum, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from appliance.commands import bars, terminal
from appliance.commands.tables import (
    Bars,
    Column,
    Row,
    amounts,
    distinct,
    numbers,
    print_table,
    words,
)
from appliance.commands.trust import NOT_MEASURED, explain

if TYPE_CHECKING:
    from appliance.reports.accounts import Account

J_PER = {"kWh": 3.6e6, "Wh": 3600.0, "J": 1.0}
G_PER = {"kg": 1000.0, "g": 1.0}
S_PER = {"h": 3600.0, "min": 60.0, "s": 1.0}

THREE = {
    "as_shipped": "as vLLM ships",
    "always_awake": "boost off, awake",
    "ladder": "the ladder",
}
UNTIL = {
    "as_shipped": "`wattnap calibrate` has seen this GPU without the boost switch",
    "always_awake": "the engine has been awake and idle here for a quarter of a minute",
}


def show(account: Account, by: str, currency: str) -> None:
    """Print it, and on stderr what should be known about it."""
    match by:
        case "hour" | "day":
            _show_times(account, by, currency)
        case "depth" | "line":
            _show_lines(account, by, currency)
        case _:
            _show_requests(account, by, currency)
    explain((row["trust"] for row in account.rows), account.notes)


def _show_times(account: Account, by: str, currency: str) -> None:
    rows = with_gaps(account.rows, by)
    table = [*rows, account.total | {by: "total"}]
    columns = [
        Column(by, [*labels([row[by] for row in rows]), "total"]),
        *_whose(table),
        *_joules(table, "energy_j", rank=0),
        Bars(bars.stacked(rows), rank=2),
        *_costs(table, currency),
        numbers("requests", table, "requests", rank=4),
        numbers("wakes", table, "wakes", rank=6),
        numbers("tokens", table, "completion_tokens", rank=7),
        numbers("J/1000 tok", table, "j_per_1000_tokens", rank=8),
        amounts(f"{currency}/1000 tok", table, "cost_per_1000_tokens", rank=9),
        *_worth(table),
    ]
    print_table(columns, below=1)
    terminal.say()
    terminal.say(bars.legend(rows))


def _show_lines(account: Account, by: str, currency: str) -> None:
    rows = account.rows
    table = [*rows, account.total | {by: "total"}]
    doing = [words("doing", table, "line")] if by == "depth" else []
    span, per_span = _unit(rows, S_PER, "seconds")
    columns = [
        words(by, table, by),
        *doing,
        *_whose(table),
        *_joules(table, "energy_j", rank=0),
        Column("%", map(_percent, rows), rank=1, right=True),
        Bars(bars.plain([row["share"] for row in rows]), rank=2),
        amounts(span, table, "seconds", per=per_span, rank=4),
        Column("W", map(_mean_w, rows), rank=5, right=True),
        *_costs(table, currency),
        *_worth(table),
    ]
    print_table(columns, below=1)


def _show_requests(account: Account, by: str, currency: str) -> None:
    rows = [row | {by: row[by] or "(none)"} for row in account.rows]
    table = [*rows, account.total | {by: "total"}]
    columns = [
        words(by, table, by),
        distinct("door", table, "door", rank=8),
        *_whose(table),
        *_joules(table, "full_j", rank=0),
        Bars(bars.plain([row["full_j"] for row in rows]), rank=2),
        *_costs(table, currency),
        numbers("requests", table, "requests", rank=3),
        numbers("tokens", table, "completion_tokens", rank=5),
        numbers("J/1000 tok", table, "full_j_per_1000_tokens", rank=4),
        numbers("without wake", table, "marginal_j_per_1000_tokens", rank=7),
        amounts(f"{currency}/1000 tok", table, "cost_per_1000_tokens", rank=9),
        *_worth(table),
    ]
    print_table(columns, below=1)


def show_savings(account: Account, currency: str, no_boost: str) -> None:
    """Print the days, their sum, how far each column is to be trusted, and what was saved.

    `no_boost`: why nothing can be known of the first column here; "": it can.
    """
    rows, total = account.rows, account.total
    table = [*rows, total | {"day": "total"}]
    unit, per = _unit(rows, J_PER, *(f"{name}_j" for name in THREE))
    three = [amounts(f"{head}, {unit}", table, f"{n}_j", per=per) for n, head in THREE.items()]
    for name, column in zip(THREE, three, strict=True):
        column.cells.append(total[f"{name}_trust"] or "not known")
    columns = [
        words("day", [*table, {"day": "trust"}], "day"),
        *_whose(table),
        *three,
        Bars(bars.plain([row["ladder_j"] for row in rows]), rank=2),
    ]
    print_table(columns, below=2)
    terminal.say()
    for name in ("as_shipped", "always_awake"):
        terminal.tell(saved(total, name, currency, no_boost))
    explain([total["ladder_trust"]], account.notes)


def saved(total: Row, name: str, currency: str, no_boost: str = "") -> str:
    """What the ladder has saved against another column, in a sentence."""
    instead_j, was_j = total[f"{name}_j"], total["ladder_j"]
    if instead_j is None or was_j is None:
        why = f"; {no_boost}" if no_boost and name == "as_shipped" else f", until {UNTIL[name]}"
        return f"Against {THREE[name]}: not known{why}."
    unit, per = _unit([total], J_PER, f"{name}_j")
    less_j = instead_j - was_j
    words = [f"{abs(less_j) / per:.3g} {unit}"]
    if instead_j > 0:
        words.append(f"{abs(less_j) / instead_j:.1%}")
    if total[f"{name}_cost"] is not None and total["ladder_cost"] is not None:
        words.append(f"{abs(total[f'{name}_cost'] - total['ladder_cost']):.2f} {currency}")
    did = "saved" if less_j >= 0 else "cost more"
    return f"Against {THREE[name]}, the ladder has {did}: {', '.join(words)} (an estimate)."


def with_gaps(rows: Sequence[Row], by: str) -> list[Row]:
    """A row of dots where at least one hour or day is missing between two others."""
    shown: list[Row] = list(rows[:1])
    for earlier, later in pairwise(rows):
        if _apart(earlier[by], later[by]):
            shown.append({by: "…"})
        shown.append(later)
    return shown


def _apart(earlier: str, later: str) -> bool:
    if "T" in earlier and "T" in later:
        return datetime.fromisoformat(later) - datetime.fromisoformat(earlier) > timedelta(hours=1)
    # A day beside an hour: its hours are no longer kept.
    days = [_day(at) for at in (earlier, later)]
    return days[1] - days[0] > timedelta(days=1)


def _day(at: str) -> date:
    return datetime.fromisoformat(at).astimezone().date() if "T" in at else date.fromisoformat(at)


def labels(starts: Sequence[str]) -> list[str]:
    """Days as they are, hours in local time; with the zone where that changes among them."""
    hours = {at: datetime.fromisoformat(at).astimezone() for at in starts if "T" in at}
    zone = " %Z" if len({hour.utcoffset() for hour in hours.values()}) > 1 else ""
    return [hours[at].strftime(f"%m-%d %H:%M{zone}") if at in hours else at for at in starts]


def _whose(table: Sequence[Row]) -> list[Column]:
    """Where there are several."""
    names = ("engine", "device")
    return [distinct(name, table, name, rank=10 + i) for i, name in enumerate(names)]


def _joules(table: Sequence[Row], key: str, *, rank: int) -> list[Column]:
    unit, per = _unit(table[:-1], J_PER, key)
    return [amounts(unit, table, key, per=per, rank=rank)]


def _costs(table: Sequence[Row], currency: str) -> list[Column]:
    mass, per = _unit(table[:-1], G_PER, "co2_g")
    return [
        amounts(currency, table, "cost", digits=2, rank=1),
        amounts(f"{mass} CO₂", table, "co2_g", per=per, rank=5),
    ]


def _worth(table: Sequence[Row]) -> list[Column]:
    gaps = [{"s": s} if (s := row.get("unmeasured_s") or 0.0) >= 1 else {} for row in table]
    span, per = _unit(gaps[:-1], S_PER, "s")
    trust = ["" if "trust" not in row else row["trust"] or NOT_MEASURED for row in table]
    return [
        amounts(f"{span} unmeasured", gaps, "s", per=per, rank=6),
        Column("trust", trust, rank=3),
    ]


def _unit(rows: Sequence[Row], units: dict[str, float], *keys: str) -> tuple[str, float]:
    """The largest of which there is at least one somewhere."""
    most = max((abs(row.get(key) or 0.0) for row in rows for key in keys), default=0.0)
    return next(
        ((unit, per) for unit, per in units.items() if most >= per), list(units.items())[-1]
    )


def _percent(row: Row) -> str:
    return "" if row["share"] is None else f"{100 * row['share']:.1f}"


def _mean_w(row: Row) -> str:
    """While it was measured, if that was for long enough to say."""
    seconds = row["seconds"] - row["unmeasured_s"]
    if row["energy_j"] is None or seconds < 1:
        return ""
    return f"{row['energy_j'] / seconds:.1f}"
