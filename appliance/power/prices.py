"""What each depth costs on this machine, as it was measured; kept in the table `calibration`.

One row for each depth of one engine on one device. Seconds follow every real move, joules
follow those that were metered; watts and bytes are the calibration's alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from appliance.average import Average
from appliance.power.steady import same_w
from appliance.storage.sql import Database
from policies.ladder import Depth, Rung

MEMORY = 20
"""Moves after which a price is all new."""

AVERAGES = ("enter_s", "enter_j", "wake_s", "wake_j")


def average() -> Average:
    return Average(memory=MEMORY)


@dataclass(slots=True, kw_only=True)
class Price:
    """One depth's.

    at          when its watts were measured, or it was first seen
    source      of watts and joules: the meter's "counter", "integral" or "estimate"; None: none
    power_w     at rest there; None: not measured
    spread_w    standard deviation of the means that power_w was made of
    settle_s    the tail of what was before lasted so long
    enter_s     of the edge from the next shallower rung
    enter_j     what the meter counted on it: the whole, not what is above a floor
    wake_s      from there until it can serve, with the check
    wake_j      likewise, the whole
    vram_bytes  held there; None: not known
    """

    depth: Depth
    at: str
    source: str | None = None
    power_w: float | None = None
    spread_w: float = 0.0
    settle_s: float | None = None
    enter_s: Average = field(default_factory=average)
    enter_j: Average = field(default_factory=average)
    wake_s: Average = field(default_factory=average)
    wake_j: Average = field(default_factory=average)
    vram_bytes: int | None = None
    ram_bytes: int | None = None

    def copy(self) -> Price:
        """As it is now, for another thread."""
        return deepcopy(self)


Prices = dict[Depth, Price]


def rungs(prices: Mapping[Depth, Price], offered: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """`offered`, with what was measured instead of what stands there. Pure.

    What has not been measured draws as much as the rung above it: nothing is promised.
    """
    powers_w = _powers_w(prices, offered)
    floor_w = powers_w[-1]
    return tuple(
        _rung(prices.get(rung.depth), rung, power_w, floor_w)
        for rung, power_w in zip(offered, powers_w, strict=True)
    )


def _powers_w(prices: Mapping[Depth, Price], offered: tuple[Rung, ...]) -> list[float]:
    """Never rising; and falling only where that was seen."""
    if all((p := prices.get(rung.depth)) is None or p.power_w is None for rung in offered):
        return [rung.power_w for rung in offered]
    powers_w: list[float] = []
    above: Price | None = None
    for rung in offered:
        price = prices.get(rung.depth)
        if price is None or price.power_w is None:
            powers_w.append(powers_w[-1] if powers_w else _first_w(prices, offered))
        elif above is None or is_cheaper(price, above):
            powers_w.append(price.power_w)
            above = price
        else:
            powers_w.append(powers_w[-1])
    return powers_w


def _first_w(prices: Mapping[Depth, Price], offered: tuple[Rung, ...]) -> float:
    measured = (prices[rung.depth].power_w for rung in offered if rung.depth in prices)
    return next(power_w for power_w in measured if power_w is not None)


def is_cheaper(price: Price, above: Price) -> bool:
    """It draws less than the rung above, as far as can be seen."""
    if price.power_w is None or above.power_w is None:
        return False
    sigma_w = (price.spread_w**2 + above.spread_w**2) ** 0.5
    return above.power_w - price.power_w > same_w(above.power_w, sigma_w)


def _rung(price: Price | None, guess: Rung, power_w: float, floor_w: float) -> Rung:
    if price is None:
        return Rung(
            depth=guess.depth,
            power_w=rounded(power_w),
            enter_s=guess.enter_s,
            enter_j=guess.enter_j,
            wake_s=guess.wake_s,
            wake_j=guess.wake_j,
            vram_bytes=guess.vram_bytes,
            ram_bytes=guess.ram_bytes,
        )
    known = price.power_w is not None
    return Rung(
        depth=guess.depth,
        power_w=rounded(power_w),
        enter_s=rounded(price.enter_s.mean) if price.enter_s.count else guess.enter_s,
        enter_j=_above_j(price.enter_j, price.enter_s, floor_w, guess.enter_j),
        wake_s=rounded(price.wake_s.p90) if price.wake_s.count else guess.wake_s,
        wake_j=_above_j(price.wake_j, price.wake_s, floor_w, guess.wake_j),
        vram_bytes=guess.vram_bytes if price.vram_bytes is None else price.vram_bytes,
        ram_bytes=guess.ram_bytes if price.ram_bytes is None else price.ram_bytes,
        source=(price.source or "counter") if known else "built-in",
    )


def _above_j(joules: Average, seconds: Average, floor_w: float, guess_j: float) -> float:
    """Above what the deepest rung would have drawn meanwhile."""
    if not joules.count:
        return guess_j
    return rounded(max(0.0, joules.mean - floor_w * seconds.mean))


def rounded(value: float) -> float:
    """To three digits: what a policy has computed holds until something has really changed."""
    return float(f"{value:.3g}")


# Kept.


def load(db: Database, recipe: str, device: str) -> Prices:
    """What is known of this very engine on this device."""
    found: Prices = {}
    for row in db.query(
        "SELECT * FROM calibration WHERE recipe = ? AND device = ?", [recipe, device]
    ):
        price = Price(
            depth=Depth[row["depth"].upper()],
            at=row["at"],
            source=row["source"],
            power_w=row["power_w"],
            spread_w=row["spread_w"],
            settle_s=row["settle_s"],
            vram_bytes=row["vram_bytes"],
            ram_bytes=row["ram_bytes"],
        )
        for name, (count, mean, variance) in json.loads(row["moves"]).items():
            setattr(price, name, Average(MEMORY, count, mean, variance))
        found[price.depth] = price
    return found


def keep(db: Database, recipe: str, device: str, engine: str, made_of: str, price: Price) -> None:
    """Put it in the place of what was known of this depth. `made_of`: JSON."""
    moves = {
        name: (of.count, of.mean, of.variance)
        for name in AVERAGES
        if (of := getattr(price, name)).count
    }
    values = {
        "recipe": recipe,
        "device": device,
        "engine": engine,
        "made_of": made_of,
        "depth": price.depth.name.lower(),
        "at": price.at,
        "source": price.source,
        "power_w": price.power_w,
        "spread_w": price.spread_w,
        "settle_s": price.settle_s,
        "moves": json.dumps(moves),
        "vram_bytes": price.vram_bytes,
        "ram_bytes": price.ram_bytes,
    }
    names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT OR REPLACE INTO calibration ({names}) VALUES ({places})", values)  # noqa: S608 - our names


def latest(db: Database, engine: str) -> tuple[str, Prices] | None:
    """The device, and what was last measured of this engine on it; None: nothing ever."""
    found = db.execute(
        "SELECT recipe, device FROM calibration WHERE engine = ? AND power_w IS NOT NULL"
        " ORDER BY at DESC LIMIT 1",
        (engine,),
    ).fetchone()
    if found is None:
        return None
    recipe, device = found
    return device, load(db, recipe, device)


def latest_made_of(db: Database, engine: str, device: str | None = None) -> dict[str, str] | None:
    """Of what this engine consisted when it was last calibrated; None: it never was.

    `device`: by that meter's; None: by any.
    """
    found = db.execute(
        "SELECT made_of FROM calibration WHERE engine = :engine AND ram_bytes IS NOT NULL"
        " AND (:device IS NULL OR device = :device) ORDER BY at DESC LIMIT 1",
        {"engine": engine, "device": device},
    ).fetchone()
    return dict(json.loads(found[0])) if found else None
