"""What the ledger adds up to, of all time: for whoever watches it as counters. Reads only.

What is rolled up or thrown away later was counted before, so none of these ever falls.
"""

from __future__ import annotations

from msgspec import Struct

from appliance.storage.sql import Database

LATEST = 1000
"""Requests by which is told how long a first token takes."""


class Totals(Struct, frozen=True, kw_only=True):
    """requests  (door, state) -> how many
    tokens    (prompt, completion)
    wakes     (from_depth, outcome) -> (how many, seconds that they took)
    energy_j  (line, depth) -> joules; what was not measured is not in it
    ttft_s    seconds to the first token of the latest requests, in ascending order
    """

    requests: dict[tuple[str, str], int]
    tokens: tuple[int, int]
    wakes: dict[tuple[str, str], tuple[int, float]]
    energy_j: dict[tuple[str, str], float]
    ttft_s: list[float]


def read(db: Database) -> Totals:
    served = db.execute(
        "SELECT door, state, sum(requests), sum(prompt_tokens), sum(completion_tokens)"
        " FROM requests_by_hour GROUP BY door, state"
    ).fetchall()
    wakes = db.execute(
        "SELECT from_depth, outcome, count(*), sum(seconds) FROM ledger_transition"
        " WHERE to_depth = 'awake' GROUP BY from_depth, outcome"
    )
    energy = db.execute(
        "SELECT line, depth, sum(energy_j) FROM energy_by_depth"
        " WHERE energy_j IS NOT NULL GROUP BY line, depth"
    )
    first = db.execute(
        "SELECT ttft_s FROM (SELECT ttft_s FROM ledger_request ORDER BY seq DESC LIMIT ?)"
        " WHERE ttft_s IS NOT NULL ORDER BY ttft_s",
        (LATEST,),
    )
    return Totals(
        requests={(door, state): count for door, state, count, *_ in served},
        tokens=(sum(row[3] or 0 for row in served), sum(row[4] or 0 for row in served)),
        wakes={(depth, outcome): (count, total) for depth, outcome, count, total in wakes},
        energy_j={(line, depth): joules for line, depth, joules in energy},
        ttft_s=[seconds for (seconds,) in first],
    )
