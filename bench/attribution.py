"""How well the ledger finds what is true: days of the simulated plant, seen through its sensors.

    python -m bench.attribution                       # 24 h, five days, every sensor
    python -m bench.attribution --hours 2 --days 1 --sensors counter,trailing

Per sensor, the worst of the days: joules of the plant that no line has, and of each line how
far it is off; of requests of 5 s and more how many are within a tenth; Σ lines against the
meter. A sensor that is wrong by its gain is compared with what it would have counted:
no ledger can know better. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from typing import Any

from bench.rig import machine, report
from drivers.plant import Plant
from drivers.plant_meter import BOXCAR_25_100, COUNTER, COUNTER_25_100, TRAILING_1_S, Sensor
from drivers.plant_story import H200, Story, a_day
from tests.played import Played, play

LONG_S = 5.0
SENSORS: dict[str, Sensor] = {
    "exact": Sensor(),
    "counter": COUNTER,
    "counter of boxcars": COUNTER_25_100,
    "boxcar": BOXCAR_25_100,
    "trailing": TRAILING_1_S,
}
FAULTS: dict[str, dict[str, Any]] = {
    # Gain within 5 %, wherever the seed puts the rest.
    "dropouts": {"resets": 0, "silences": 50},
    "resets": {"resets": 4, "silences": 0},
}
JUMPS_S = (3600.0, -50.0, 7.0)


def sensors(seed: int, plant: Plant) -> dict[str, Sensor]:
    """All that are tried, as this seed spoils them."""
    found = dict(SENSORS)
    for name in ("counter", "boxcar", "trailing"):
        for fault, numbers in FAULTS.items():
            found[f"{name}, {fault}"] = SENSORS[name].spoiled(seed, plant, **numbers)
    third_s = (plant.end_s - plant.start_s) / 4
    jumps = tuple((plant.start_s + n * third_s, by_s) for n, by_s in enumerate(JUMPS_S, 1))
    found["counter, clock jumps"] = dataclasses.replace(COUNTER, jumps_s=jumps)
    found["counter, wraps"] = dataclasses.replace(COUNTER, wrap_j=100_000.0)
    return found


def true_lines(plant: Plant, gain: float) -> dict[str, float]:
    """As the ledger names them. What an idle awake engine draws for nothing is idle."""
    lines: dict[str, float] = defaultdict(float)
    for cause, joules in plant.joules().items():
        line = "idle" if cause.line == "boost" else cause.line
        depth = "awake" if line in {"request", "tail"} else cause.of
        lines[f"{line} {depth}"] += gain * joules
    return dict(lines)


def judged(story: Story, sensor: Sensor, played: Played) -> dict[str, Any]:
    """What the ledger says of that day, beside the truth."""
    plant = story.plant()
    true = true_lines(plant, sensor.gain)
    found = {f"{line} {depth}": joules for (line, depth), joules in played.lines.items()}
    drawn_j = sum(true.values())
    unattributed_j = sum(j for line, j in found.items() if line.startswith("unattributed"))
    requests = {
        cause.of: sensor.gain * joules
        for cause, joules in plant.joules().items()
        if cause.line == "request"
    }
    off = [
        (share.quality, abs((share.energy_j or 0.0) / requests[id] - 1))
        for id, share in played.shares.items()
        if share.measured_s + share.lost_s >= LONG_S
    ]
    return {
        "unattributed": (abs(drawn_j - sum(found.values())) + unattributed_j) / drawn_j,
        "lines": {line: found.get(line, 0.0) / joules - 1 for line, joules in true.items()},
        "requests": [error for _, error in off],
        "good": [error for quality, error in off if quality == "good"],
        "identity": abs(sum(found.values()) / (played.metered_j + played.table_j) - 1),
        "unmeasured_s": played.unmeasured_s,
        "looks_per_s": played.looks / (plant.end_s - plant.start_s),
    }


def worst(days: list[dict[str, Any]]) -> dict[str, Any]:
    off = sorted(each for day in days for each in day["requests"])
    lines: dict[str, float] = {}
    for day in days:
        for line, error in day["lines"].items():
            lines[line] = max(lines.get(line, 0.0), error, key=abs)
    return {
        "unattributed": round(max(day["unattributed"] for day in days), 6),
        "lines": {line: round(error, 4) for line, error in sorted(lines.items())},
        "worst_line": round(max(abs(error) for error in lines.values()), 4),
        "requests": len(off),
        "within_a_tenth": round(sum(each <= 0.1 for each in off) / max(1, len(off)), 4),
        "request_p50": round(off[len(off) // 2], 4) if off else None,
        "request_p95": round(off[int(0.95 * len(off))], 4) if off else None,
        "request_worst": round(off[-1], 4) if off else None,
        "good": sum(len(day["good"]) for day in days),
        "good_worst": round(max(each for day in days for each in day["good"]), 4),
        "identity": max(day["identity"] for day in days),
        "unmeasured_s": round(max(day["unmeasured_s"] for day in days), 1),
        "looks_per_s": round(max(day["looks_per_s"] for day in days), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--boost-w", type=float, default=0.0, help="idle awake, above the floor")
    parser.add_argument("--pause", type=float, default=1200.0, help="between conversations, mean")
    parser.add_argument("--sensors", default="", help="names that are in it; empty: all")
    options = parser.parse_args()
    watts = dataclasses.replace(H200, boost_w=options.boost_w)
    wanted, began = options.sensors.split(","), time.process_time()
    days: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(options.days):
        story = a_day(seed, watts, hours=options.hours, pause_s=options.pause)
        for name, sensor in sensors(seed, story.plant()).items():
            if any(each in name for each in wanted):
                days[name].append(judged(story, sensor, play(story, sensor)))
    report(
        {
            "bench": "attribution",
            "machine": machine(),
            "hours": options.hours,
            "days": options.days,
            "boost_w": options.boost_w,
            "pause_s": options.pause,
            "cpu_s": round(time.process_time() - began, 1),
            "sensors": {name: worst(each) for name, each in days.items()},
        }
    )


if __name__ == "__main__":
    main()
