"""How fast `wattnap simulate` replays, and how much memory it takes.

    python -m bench.simulate [--gaps 100000] [--kinds sessions_chat,…] [--rungs FILE,desktop]

The command as a user runs it, in a process of its own, on made-up traces of `--gaps` idle
periods and of a tenth of that, Python's start and the reading of the file included. For each:
seconds by the clock and of a core, the most memory it ever held, and what that is for each
idle period more. Prints a line of JSON for each, and one for the whole.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from bench.arrivals import KINDS, WORK_S
from bench.rig import machine, report


def write(path: Path, kind: str, arrivals: int) -> None:
    """A trace file, as everybody's."""
    times_s = sorted(islice(KINDS[kind](Random(1)), arrivals))
    lines = (f"{at_s:.3f},{WORK_S}\n" for at_s in times_s)
    with path.open("w") as file:
        file.write("t_s,service_s\n")
        file.writelines(lines)


def simulated(trace: Path, rungs: str, folder: Path) -> dict[str, Any]:
    """What one run took, and what it said."""
    config = folder / "wattnap.toml"
    config.write_text(f'state_dir = "{folder}/state"\n')
    command = [sys.executable, "-m", "appliance", "simulate", "--config", str(config)]
    command += ["--trace", str(trace), "--rungs", rungs, "--json"]
    begun_s = time.monotonic()
    with (folder / "out").open("w+b") as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - begun_s
        out.seek(0)
        said = msgspec.json.decode(out.read())
    if child.returncode:
        raise SystemExit(f"{command}: {child.returncode}")
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "rss_mib": round(used.ru_maxrss / 1024, 1),
        "policies": list(said[0]["policies"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaps", type=int, default=100_000)
    parser.add_argument(
        "--kinds", default="sessions_chat,poisson_180,pareto_1,two_states,home,just_past"
    )
    parser.add_argument("--rungs", default="tests/fixtures/five_rungs.toml,desktop")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="wn-") as place:
        folder = Path(place)
        for kind in options.kinds.split(","):
            write(folder / "few.csv", kind, options.gaps // 10)
            write(folder / "many.csv", kind, options.gaps)
            for rungs in options.rungs.split(","):
                few = simulated(folder / "few.csv", rungs, folder)
                many = simulated(folder / "many.csv", rungs, folder)
                more = (many["rss_mib"] - few["rss_mib"]) * 2**20 / (0.9 * options.gaps)
                result = {"kind": kind, "rungs": rungs, "arrivals": options.gaps, **many}
                result |= {"rss_of_a_tenth_mib": few["rss_mib"], "bytes_per_gap": round(more)}
                results.append(result)
                report(result)
    report(
        {
            "bench": "simulate",
            "machine": machine(),
            "arrivals": options.gaps,
            "wall_s_most": max(result["wall_s"] for result in results),
            "cpu_s_most": max(result["cpu_s"] for result in results),
            "rss_mib_most": max(result["rss_mib"] for result in results),
            "bytes_per_gap_most": max(result["bytes_per_gap"] for result in results),
        }
    )


if __name__ == "__main__":
    main()
