"""What the ladder saves with the prices measured on an H200: three columns for each trace.

    python -m bench.savings [--traces DIR] [--rungs h200] [--wake-cap-s 5] [--policy learned]

As vLLM ships; boost off and always awake; the ladder under the policy, with and without a
cap on what anybody may wait. Prints a line of JSON for each trace, and one for the whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from appliance.power import visits
from appliance.simulation import ladder_file
from appliance.simulation.simulate import Terms, simulate
from bench.rig import machine, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder; without it, those that are shipped")
    parser.add_argument("--rungs", default="h200")
    parser.add_argument("--lambda-w", type=float, default=100.0)
    parser.add_argument("--wake-cap-s", type=float, default=5.0)
    parser.add_argument("--policy", default="learned")
    options = parser.parse_args()
    prices = ladder_file.read(options.rungs)
    paths = sorted(options.traces.glob("*.csv")) if options.traces else visits.shipped()
    rows = []
    for path in paths:
        trace = visits.read(path, path.stem)
        row: dict[str, Any] = {"trace": path.stem, "idle_h": round(sum(trace.idle_s) / 3600, 1)}
        for name, cap_s in (("ladder", None), ("capped", options.wake_cap_s)):
            terms = Terms(lambda_w=options.lambda_w, wake_cap_s=cap_s)
            found = simulate(trace, prices, terms).policies
            for column, policy in (
                ("as_shipped", "always_on"),
                ("boost_off", "boost_off"),
                (name, options.policy),
            ):
                row[f"{column}_wh"] = round(found[policy].energy_j / 3600, 1)
                row[f"{column}_saves"] = round(1 - found[policy].of_always_on, 4)
            row[f"{name}_longest_wait_s"] = found[options.policy].wait_max_s
        rows.append(row)
        report(row)
    whole: dict[str, Any] = {"bench": "savings", "machine": machine(), **vars(options)}
    whole["traces"] = len(rows)
    for name in ("boost_off_saves", "ladder_saves", "capped_saves"):
        whole[name] = round(median(row[name] for row in rows), 4)
    for name in ("ladder_longest_wait_s", "capped_longest_wait_s"):
        whole[name] = max(row[name] for row in rows)
    report(whole)


if __name__ == "__main__":
    main()
