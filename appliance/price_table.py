"""The ladder with its prices, for people and for the socket: what each rung costs, and when
the one below pays. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from appliance.average import Average
from appliance.prices import Price, Prices
from policies.ladder import Depth, Ladder, Rung, Timetable


def price_table(prices: Prices, ladder: Ladder) -> list[dict[str, Any]]:
    """One object for each offered rung, awake first (docs/socket.md, `calibrated`)."""
    above: dict[Depth, Rung] = {below.depth: rung for rung, below in pairwise(ladder)}
    return [_row(prices.get(r.depth), r, above.get(r.depth)) for r in ladder]


def _row(price: Price | None, rung: Rung, above: Rung | None) -> dict[str, Any]:
    measured = price or Price(depth=rung.depth, at="")
    return {
        "depth": rung.depth.name.lower(),
        "source": rung.source,
        "at": measured.at or None,
        "power_w": measured.power_w,
        "spread_w": None if measured.power_w is None else measured.spread_w,
        "settle_s": measured.settle_s,
        "enter_s": _mean(measured.enter_s),
        "enter_j": _mean(measured.enter_j),
        "wake_s": _mean(measured.wake_s),
        "wake_p90_s": measured.wake_s.p90 if measured.wake_s.count else None,
        "wake_j": _mean(measured.wake_j),
        "wakes": measured.wake_s.count,
        "vram_bytes": measured.vram_bytes,
        "ram_bytes": measured.ram_bytes,
        "breakeven_s": breakeven_s(above, rung) if above else None,
        "saves_w": above.power_w - rung.power_w if above else None,
    }


def breakeven_s(above: Rung, rung: Rung) -> float | None:
    """Idle seconds on the rung above after which going down has paid; None: it never does."""
    saved_w = above.power_w - rung.power_w
    if saved_w <= 0:
        return None
    return max(0.0, (rung.enter_j + rung.wake_j - above.wake_j) / saved_w)


def steps_json(steps: Timetable) -> list[dict[str, Any]]:
    return [{"after_s": step.after_s, "depth": step.depth.name.lower()} for step in steps]


def _mean(of: Average) -> float | None:
    return of.mean if of.count else None
