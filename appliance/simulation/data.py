"""Traces and prices for a simulation: those that are named, this machine's own, or shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.config import Config
from appliance.power import ladder, prices, visits
from appliance.simulation import ladder_file
from appliance.simulation.ladder_file import PriceList
from appliance.storage import ledger
from appliance.storage.reading import reading
from appliance.storage.sql import Database
from policies.replay import Trace

NAME = "this machine"
MOST_REQUESTS = 1_000_000


class Data(NamedTuple):
    """notes  for people: what was taken because nothing was named"""

    traces: list[Trace]
    prices: PriceList
    notes: list[str]


def gather(config: Config, paths: Sequence[Path], rungs: str | None) -> Data:
    """What is named; else what this machine has seen and measured; else what is shipped.

    Raises DataUnusable, and Unreachable for a database that cannot be read.
    """
    traces = [visits.read(path) for path in paths]
    listed = None if rungs is None else ladder_file.read(rungs)
    alias = config.engine.alias
    notes: list[str] = []
    if not (traces and listed) and _readable(config.database, notes):
        with reading(config.database) as db:
            own = history(db, alias)
            traces = traces or ([own] if len(own) else [])
            listed = listed or price_list(db, alias)
    if not traces:
        traces = [visits.read(path, path.stem) for path in visits.shipped()]
        notes.append("no requests in a log here: these are traces that come with wattnap")
    if listed is None:
        listed = ladder_file.read("h200")
        notes.append(
            "no calibrated ladder here: these are the prices of an H200; --rungs has others"
        )
    return Data(traces, listed, notes)


def _readable(database: Path, notes: list[str]) -> bool:
    """Whether there is one; another user's is as good as none, but that is told."""
    try:
        database.stat()
    except PermissionError:
        notes.append(f"{database} is not for this user; try it with `sudo -u wattnap`")
    except OSError:
        pass
    else:
        return True
    return False


def history(db: Database, engine: str) -> Trace:
    """Everything that was asked of it, or as much as is still known."""
    return visits.logged(NAME, ledger.served(db, engine, MOST_REQUESTS))


def price_list(db: Database, engine: str) -> PriceList | None:
    """The ladder as it was last calibrated; None: it never was."""
    found = prices.latest(db, engine)
    if found is None:
        return None
    device, measured = found
    offered = (ladder.AWAKE, *(rung for rung in ladder.RESTS if rung.depth in measured))
    rungs = prices.rungs(measured, offered)
    boost_w = ledger.learned(db, engine, device).get(("boost_w", ""))
    as_shipped_w = rungs[0].power_w + boost_w if boost_w else None
    return PriceList(NAME, "this machine, calibrated", rungs, as_shipped_w)
