"""What `wattnap simulate` says of the shipped traces, kept in a file.

    python -m tests.golden --write

after a change of a policy that is meant; the difference belongs into the commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from appliance.power import visits
from appliance.simulation import ladder_file
from appliance.simulation.ladder_file import PriceList
from appliance.simulation.simulate import Terms, simulate
from policies.ladder import Depth, Rung

FILE = Path(__file__).parent / "fixtures" / "simulated.json"
FIVE_RUNGS = str(Path(__file__).parent / "fixtures" / "five_rungs.toml")
"""Rungs that differ, unlike those that were measured."""

TWO_RUNGS = PriceList(
    "two rungs",
    "break-even after 180 s",
    (
        Rung(depth=Depth.AWAKE, power_w=40.0),
        Rung(depth=Depth.OFF, power_w=0.0, wake_s=10.0, wake_j=7200.0),
    ),
)


def simulated() -> dict[str, list[dict[str, Any]]]:  # JSON
    """By prices, and what a waiting person is worth."""
    traces = [visits.read(path, path.stem) for path in visits.shipped()]
    cases = [(TWO_RUNGS, lambda_w) for lambda_w in (0.0, 100.0, 1000.0)]
    cases += [(ladder_file.read(name), 100.0) for name in (*ladder_file.shipped(), FIVE_RUNGS)]
    return {
        f"{Path(prices.name).stem}, {lambda_w:g} W": [
            simulate(trace, prices, Terms(lambda_w=lambda_w)).as_dict() for trace in traces
        ]
        for prices, lambda_w in cases
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    lines = (
        f"{json.dumps(case)}: [\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"
        for case, rows in simulated().items()
    )
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
