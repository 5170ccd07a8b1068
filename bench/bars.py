"""All that the ladder must reach on a GPU, in one go: runs the benchmarks, and says what holds.

    python -m bench.big_model /tmp/model
    python -m bench.bars --model /tmp/model --engine-python VENV/bin/python --out DIR

A quarter of an hour on an H200, and two minutes more with empty caches. Raw lines are
DIR/<run>.jsonl, the daemons' logs DIR/<run>.log. For 13 GB of weights in bf16 on a GPU like
that one; the engine's Python needs InstantTensor besides vLLM. Ends with 1 if something does
not hold, or was not measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARKS = ("--graphs", "--phases")
RUNS = {
    "eager": ["--phases", "stop"],
    "fp8": [*PARKS, "park", "--cycles=20", '--engine-key=quantization = "fp8"'],
    "graphs": [*PARKS, "park,cold,stop,turn,kill,watts", "--cycles=50"],
}
"""Arguments of bench.ladder, by the run's name; the quick ones first."""

Results = Mapping[str, Mapping[str, Any]]
"""Run -> phase -> what bench.ladder told of it."""


@dataclass(frozen=True)
class Bar:
    """what, unit  in words
    most       so much at most
    measure    of the results; KeyError, TypeError: it was not measured
    """

    what: str
    unit: str
    most: float
    measure: Callable[[Results], float]


def floor_w(told: Results) -> float:
    watts = told["graphs"]["watts"]
    return float(watts["floor_before_w"] + watts["floor_after_w"]) / 2


def parked_gb(told: Results) -> float:
    """Anonymous and pinned memory of all processes, in shares."""
    ram_mib = told["graphs"]["watts"]["parked_ram_mb"]
    return float(ram_mib["anon"] + ram_mib["shmem"]) * (1 << 20) / 1e9


def growth(told: Results) -> float:
    """RSS a cycle, over twice its standard error: what 0 would show in 19 of 20 runs."""
    line = told["graphs"]["park"]["rss_mb_slope"]
    return abs(float(line["per_cycle"])) / (2 * float(line["standard_error"]))


def wrong_wakes(told: Results) -> float:
    park = told["graphs"]["park"]
    return float(len(park["failed"]) + park["different_answers"] - 1)


def orphans(told: Results) -> float:
    killed = {**told["graphs"]["kill"], **told["graphs"]["daemon_killed"]}
    left = [case["left"] for case in killed.values() if isinstance(case, dict)]
    return float(sum(map(len, left)))


def p50(run: str, phase: str, way: str) -> Callable[[Results], float]:
    return lambda told: float(told[run][phase][way]["p50_s"])


BARS = (
    Bar(
        "awake and idle − floor",
        "W",
        2.0,
        lambda t: t["graphs"]["watts"]["awake_idle_w"] - floor_w(t),
    ),
    Bar("parked − floor", "W", 2.0, lambda t: t["graphs"]["watts"]["parked_w"] - floor_w(t)),
    Bar(
        "GPU memory held, parked (the driver's own: 3)",
        "MiB",
        8.0,
        lambda t: t["graphs"]["watts"]["parked_gpu_mb"] - t["graphs"]["watts"]["floor_mb"],
    ),
    Bar("RAM held, parked", "GB", 3.0, parked_gb),
    Bar("PARKED → first token, p50", "s", 1.0, p50("graphs", "park", "to_first_token")),
    Bar("the same, FP8", "s", 0.6, p50("fp8", "park", "to_first_token")),
    Bar(
        "STOPPED → first token, eager, p50",
        "s",
        3.5,
        p50("eager", "stop", "stopped_to_first_token"),
    ),
    Bar("the same, graphs", "s", 5.0, p50("graphs", "stop", "stopped_to_first_token")),
    Bar("wakes that failed or said something else", "", 0.0, wrong_wakes),
    Bar("RSS a cycle, over twice its standard error", "", 1.0, growth),
    Bar(
        "an arrival on the way down, longest",
        "s",
        2.5,
        lambda t: t["graphs"]["turn"]["served_in"]["max_s"],
    ),
    Bar("processes left after SIGKILL", "", 0.0, orphans),
)


def read(lines: str) -> dict[str, Any]:
    """Phase -> what was told of it, as far as the run came."""
    told: dict[str, Any] = {}
    for line in map(json.loads, filter(None, lines.splitlines())):
        if "phase" in line:
            told[line["phase"]] = line
        else:  # the run's first line, and its last
            told |= line
    return told


def judged(told: Results) -> list[tuple[Bar, float | None]]:
    """Each bar, and what was measured, if it was."""
    found: list[tuple[Bar, float | None]] = []
    for bar in BARS:
        try:
            found.append((bar, round(bar.measure(told), 3)))
        except (KeyError, TypeError):
            found.append((bar, None))
    return found


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.ladder", *RUNS[name]]
    command += ["--model", options.model, "--engine-python", options.engine_python]
    command += ["--device", "cuda", "--kv-mib", "2048", "--cache", str(options.out / "cache")]
    command += ["--log", str(options.out / f"{name}.log")]
    raw = options.out / f"{name}.jsonl"
    print(f"{name}: {' '.join(command[2:])}", flush=True)
    with raw.open("w") as file:
        subprocess.run(command, stdout=file, check=False)
    return read(raw.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(RUNS), help="runs, comma-separated")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    probe = [options.engine_python, "-c", "import instanttensor"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        parser.error(f"{options.engine_python} has no InstantTensor: pip install instanttensor")
    told = {name: run(name, options) for name in options.only.split(",")}
    found = judged(told)
    for bar, value in found:
        holds = (
            "not measured" if value is None else "holds" if value <= bar.most else "DOES NOT HOLD"
        )
        shown = "" if value is None else f"{value:g} {bar.unit}"
        print(f"{bar.what:<48} {shown:>10}  ≤ {bar.most:g}  {holds}")
    return int(any(value is None or value > bar.most for bar, value in found))


if __name__ == "__main__":
    sys.exit(main())
