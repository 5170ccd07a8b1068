"""The main job on this machine's own engine: wake, answer, idle, rest; and what each cost.

    python -m bench.main_job --engine-python PATH --model DIR [--engine-env NAME=VALUE …]

Needs no broker. Two wakes, some answers, an idle stretch awake and one at rest,
as the ledger booked them. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.daemon import add_engine_options, daemon
from bench.rig import machine, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_options(parser)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--idle", type=float, default=40.0, help="seconds awake and idle")
    options = parser.parse_args()
    with daemon(Path(tempfile.mkdtemp(prefix="main-job")), options) as made:
        answers = [made.ask("Why is the sky blue?", options.tokens) for _ in range(3)]
        status = made.status()
        time.sleep(options.idle)
        made.rest()
        answers.append(made.ask("And at night?", options.tokens))
    views: dict[str, list[dict[str, Any]]] = {
        name: made.rows(f"SELECT * FROM {name}")
        for name in ("wakes", "energy_by_depth", "requests")
    }
    idle = [r for r in views["energy_by_depth"] if (r["depth"], r["line"]) == ("awake", "idle")]
    report(
        {
            "bench": "main_job",
            "machine": machine(),
            "engine": {k: status[k] for k in ("version", "pids")},
            "answers": [{k: a[k] for k in ("usage", "energy", "timing")} for a in answers],
            "awake_idle_w": idle
            and idle[0]["energy_j"]
            and idle[0]["energy_j"] / idle[0]["seconds"],
            "log": made.log()[-15:],
        }
        | msgspec.to_builtins(views)
    )


if __name__ == "__main__":
    main()
