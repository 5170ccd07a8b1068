"""The ladder with its prices, for people and for the socket: what each rung costs, and when
the one below pays. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from appliance.average import Average
from appliance.power.prices import Price, Prices
from policies.course import Straight, straights
from policies.ladder import Ladder, Rung, Timetable


def price_table(prices: Prices, ladder: Ladder) -> list[dict[str, Any]]:
    """One object for each offered rung, awake first (docs/socket.md, `calibrated`)."""
    saves_w = [None, *(above.power_w - rung.power_w for above, rung in pairwise(ladder))]
    pays_s = [None, *breakevens_s(ladder)]
    return [
        _row(prices.get(rung.depth), rung) | {"saves_w": saved_w, "breakeven_s": after_s}
        for rung, saved_w, after_s in zip(ladder, saves_w, pays_s, strict=True)
    ]


def _row(price: Price | None, rung: Rung) -> dict[str, Any]:
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
    }


def breakevens_s(ladder: Ladder) -> list[float | None]:
    """For each rung below the first: idle seconds after which it costs no more than the one above.

    In joules alone, whoever waits. None: it never does.
    """
    return [_crossing_s(above, below) for above, below in pairwise(straights(ladder, 0.0))]


def _crossing_s(above: Straight, below: Straight) -> float | None:
    if below.power_w >= above.power_w:
        return None
    # Each is a line over idle time, which begins when it has settled.
    above_j = above.price_j - above.power_w * above.settled_s
    below_j = below.price_j - below.power_w * below.settled_s
    return max(0.0, (below_j - above_j) / (above.power_w - below.power_w))


def steps_json(steps: Timetable) -> list[dict[str, Any]]:
    return [{"after_s": step.after_s, "depth": step.depth.name.lower()} for step in steps]


def _mean(of: Average) -> float | None:
    return of.mean if of.count else None
