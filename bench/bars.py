"""All that the ladder must reach on a GPU, in one go: runs the benchmarks, and says what holds.

    python -m bench.big_model /tmp/model
    python -m bench.bars --model /tmp/model --engine-python VENV/bin/python --out DIR

A quarter of an hour on an H200, and two minutes more with empty caches. Raw lines are
DIR/<run>.jsonl, the daemons' logs DIR/<run>.log. For 13 GB of weights in bf16 on a GPU like
that one; the engine's Python needs InstantTensor besides vLLM. Ends with 1 if something does
not hold, or was not measured.

With `--only defaults,plan` it looks at an engine as an empty configuration has it, without
and with vLLM's startup plan; there are no bars for that.
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
DEFAULTS = ("--kv-mib=0", "--max-model-len=0", "--max-running=64")
RUNS = {
    "eager": ["--phases", "stop"],
    "fp8": [*PARKS, "park", "--cycles=20", '--engine-key=quantization = "fp8"'],
    "graphs": [*PARKS, "park,cold,stop,turn,kill,watts", "--cycles=50"],
    "defaults": [*PARKS, "park,stop", "--cycles=10", *DEFAULTS],
    "plan": [*PARKS, "stop", *DEFAULTS, "--engine-key=startup_plan = true"],
}
"""Arguments of bench.ladder, by the run's name; the quick ones first."""
WITH_BARS = ("eager", "fp8", "graphs")

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

    def says(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        return "holds" if value <= self.most else "DOES NOT HOLD"


def floor_w(told: Results) -> float:
    watts = told["graphs"]["watts"]
    return float(watts["floor_before_w"] + watts["floor_after_w"]) / 2


def parked_gb(told: Results) -> float:
    """Anonymous and pinned memory of all processes, in shares."""
    ram_mib = told["graphs"]["watts"]["parked_ram_mb"]
    return float(ram_mib["anon"] + ram_mib["shmem"]) * (1 << 20) / 1e9


def growth(told: Results) -> float:
    """MiB of RSS a cycle that twice the standard error, 19 runs in 20, does not explain."""
    line = parks(told, "graphs")["rss_mb_slope"]
    return max(0.0, abs(float(line["per_cycle"])) - 2 * float(line["standard_error"]))


def parks(told: Results, run: str) -> Mapping[str, Any]:
    """Its cycles, if they were of PARKED: bench.ladder takes what there is."""
    park: Mapping[str, Any] = told[run]["park"]
    if park["depth"] != "parked":
        raise KeyError("parked")
    return park


def wrong_wakes(told: Results) -> float:
    park = parks(told, "graphs")
    return float(len(park["failed"]) + park["different_answers"] - 1)


def killed(told: Results) -> list[Mapping[str, Any]]:
    """What each SIGKILL left."""
    cases = [*told["graphs"]["kill"].values(), *told["graphs"]["daemon_killed"].values()]
    return [case for case in cases if isinstance(case, dict)]


def orphans(told: Results) -> float:
    return float(sum(len(case["left"]) for case in killed(told)))


def memory_left_mb(told: Results) -> float:
    most: int = max(case["gpu_mb"] for case in killed(told))
    return float(most - told["graphs"]["watts"]["floor_mb"])


def parked_s(run: str) -> Callable[[Results], float]:
    return lambda told: float(parks(told, run)["to_first_token"]["p50_s"])


def stopped_s(run: str) -> Callable[[Results], float]:
    return lambda told: float(told[run]["stop"]["stopped_to_first_token"]["p50_s"])


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
    Bar("PARKED → first token, p50", "s", 1.0, parked_s("graphs")),
    Bar("the same, FP8", "s", 0.6, parked_s("fp8")),
    Bar(
        "STOPPED → first token, eager, p50",
        "s",
        3.5,
        stopped_s("eager"),
    ),
    Bar("the same, graphs", "s", 5.0, stopped_s("graphs")),
    Bar("wakes that failed or said something else", "", 0.0, wrong_wakes),
    Bar("RSS a cycle beyond twice its standard error", "MiB", 0.0, growth),
    Bar(
        "an arrival on the way down, longest",
        "s",
        2.5,
        lambda t: t["graphs"]["turn"]["served_in"]["max_s"],
    ),
    Bar("processes left after SIGKILL", "", 0.0, orphans),
    Bar("GPU memory left after it (the driver's own: 3)", "MiB", 8.0, memory_left_mb),
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
            found.append((bar, round(bar.measure(told), 6)))
        except (KeyError, TypeError):
            found.append((bar, None))
    return found


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.ladder"]
    command += ["--model", options.model, "--engine-python", options.engine_python]
    command += ["--device", "cuda", "--kv-mib", "2048", "--cache", str(options.out / "cache")]
    command += ["--log", str(options.out / f"{name}.log"), *RUNS[name]]
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
    parser.add_argument("--only", default=",".join(WITH_BARS), help=f"runs, of {', '.join(RUNS)}")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    probe = [options.engine_python, "-c", "import instanttensor"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        parser.error(f"{options.engine_python} has no InstantTensor: pip install instanttensor")
    told = {name: run(name, options) for name in options.only.split(",")}
    if not set(WITH_BARS) & told.keys():
        return 0
    found = judged(told)
    for bar, value in found:
        shown = "" if value is None else f"{value:g} {bar.unit}"
        print(f"{bar.what:<48} {shown:>10}  ≤ {bar.most:g}  {bar.says(value)}")
    return int(any(bar.says(value) != "holds" for bar, value in found))


if __name__ == "__main__":
    sys.exit(main())
