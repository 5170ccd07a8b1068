"""Every depth of rest on this machine: watts, memory, seconds to the first token and down.

    python -m bench.ladder --model DIR [--phases watts,park,asks,cold,stop,turn,kill] …

One daemon over a real engine, driven through its socket. What the engine does not
offer is left out, and why is said. Watts are NVML's energy counter over `--over`
seconds, `--settle` seconds after the last move (in LIGHT and STOPPED a third of both);
the floor is measured before and after. Prints a line of JSON for each phase, as it ends,
and one for the whole.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from appliance.socket_client import Daemon
from bench.daemon import Running, add_engine_options, daemon
from bench.rig import machine, report

PHASES = ("watts", "park", "asks", "cold", "stop", "turn", "kill")
MB = 1 << 20
WORRY = re.compile(r"^[\d:.]+ (warning|error): ")
"""Begins a line of the daemon's log that is no ordinary one."""


class Gpu:
    """NVML's view; without one, nothing is known."""

    def __init__(self) -> None:
        self._device: Any = None  # an opaque handle
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            self._nvml, self._device = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)

    def watts(self, over_s: float) -> float | None:
        """Mean over so many seconds, by the counter."""
        if self._device is None:
            return None
        began_s, began_mj = self._count()
        time.sleep(over_s)
        ended_s, ended_mj = self._count()
        return round((ended_mj - began_mj) / 1000 / (ended_s - began_s), 2)

    def _count(self) -> tuple[float, int]:
        return time.monotonic(), self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)

    def held_mb(self) -> int | None:
        if self._device is None:
            return None
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used // MB)


def below(made: Running) -> list[psutil.Process]:
    """All of the engine's processes: guards, host, server, core."""
    return psutil.Process(made.process.pid).children(recursive=True)


def ram_mb(made: Running) -> dict[str, float]:
    """What is held for the engine, in proportional set sizes, by kind and by process.

    "file" is what programs and libraries have in the page cache: the kernel may drop it,
    and no process's size has it. "rss" counts pages that processes share once for each, and
    "rss_of_" a name is the part of all processes of that name; "rss_anon" are those of it that
    are no file's, which vary less: of its libraries a process that parks, a new one each time,
    has now more and now less at hand.
    """
    held = dict.fromkeys(("anon", "shmem", "file", "rss", "rss_anon"), 0.0)
    for process in below(made):
        with contextlib.suppress(psutil.Error, OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
            for kind in ("anon", "shmem", "file"):
                held[kind] += sizes[f"Pss_{kind.capitalize()}"] / 1024
            name = process.name()[:15].rsplit("/")[-1]
            held["rss_anon"] += sizes["Anonymous"] / 1024
            for what in ("rss", f"rss_of_{name}"):
                held[what] = held.get(what, 0.0) + sizes["Rss"] / 1024
            kept = (sizes["Pss_Anon"] + sizes["Pss_Shmem"]) / 1024
            held[name] = held.get(name, 0.0) + kept
    return {what: round(size, 3) for what, size in held.items()}


def slope(values: Sequence[float], after: int = 5) -> dict[str, float] | None:
    """Of a line through all values but the first ones, and its standard error; per value."""
    kept = values[after:]
    if len(kept) < 3:
        return None
    turns = range(len(kept))
    per_turn, offset = statistics.linear_regression(turns, kept)
    left = sum((v - offset - per_turn * n) ** 2 for n, v in zip(turns, kept, strict=True))
    error = (left / (len(kept) - 2) / sum((n - statistics.mean(turns)) ** 2 for n in turns)) ** 0.5
    return {"per_cycle": round(per_turn, 6), "standard_error": round(error, 6)}


def slopes(ram: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of what `ram_mb` told after each cycle, in MB a cycle."""
    return {
        "held_ram_mb_slope": slope([mb["anon"] + mb["shmem"] for mb in ram]),
        "rss_mb_slope": slope([mb["rss"] for mb in ram]),
        "rss_anon_mb_slope": slope([mb["rss_anon"] for mb in ram]),
        "ram_mb": list(ram),
    }


def forget(folder: Path) -> int:
    """Drop the files below it from the page cache: bytes."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return sum(file.stat().st_size for file in files)


def spread(seconds: list[float]) -> dict[str, Any]:
    return {
        "p50_s": round(statistics.median(seconds), 3),
        "min_s": round(min(seconds), 3),
        "max_s": round(max(seconds), 3),
        "n": len(seconds),
    }


class Ladder:
    """The phases, each of which leaves the engine awake."""

    def __init__(self, made: Running, options: argparse.Namespace) -> None:
        self.made, self.options, self.gpu = made, options, Gpu()
        self.said: set[str] = set()

    def offers(self, depth: str) -> bool:
        return not self.made.status()["lacks"].get(depth)

    def first(self) -> float:
        """Seconds to the first token of a prompt; `said` collects the answers."""
        answer = self.made.ask("Hello", 8)
        self.said.add(answer["text"])
        return float(answer["first_s"])

    def settled_w(self, share: float = 1.0) -> float | None:
        time.sleep(self.options.settle * share)
        return self.gpu.watts(self.options.over * share)

    def watts(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        self.made.rest("off")
        told["floor_before_w"] = self.settled_w()
        told["off_to_first_token_s"] = self.first()
        told["awake_idle_w"], told["awake_mb"] = self.settled_w(), self.gpu.held_mb()
        for depth in ("light", "parked", "stopped"):
            if self.offers(depth):
                self.made.rest(depth)
                told[f"{depth}_w"] = self.settled_w(1.0 if depth == "parked" else 1 / 3)
                told[f"{depth}_gpu_mb"], told[f"{depth}_ram_mb"] = (
                    self.gpu.held_mb(),
                    ram_mb(self.made),
                )
                self.first()
        self.made.rest("off")
        told["floor_after_w"], told["floor_mb"] = self.settled_w(), self.gpu.held_mb()
        self.first()
        return told

    def park(self) -> dict[str, Any]:
        """Cycles of the deepest sleep that is offered."""
        depth = "parked" if self.offers("parked") else "light"
        if not self.offers(depth):
            return {"lacks": self.made.status()["lacks"]}
        down, up, ram, held = [], [], [], []
        self.said.clear()
        for _ in range(self.options.cycles):
            down.append(self.made.rest(depth))
            held.append(self.gpu.held_mb())
            ram.append(ram_mb(self.made))
            up.append(self.first())
        rows = self.made.rows(
            "SELECT outcome, seconds, error FROM ledger_transition"
            f" WHERE to_depth = 'awake' AND from_depth = '{depth}'"
        )
        wakes = [row["seconds"] for row in rows]
        return {
            "depth": depth,
            "to_first_token": spread(up),
            "down": spread(down),
            "wake_with_check": spread(wakes),
            "failed": [row for row in rows if row["outcome"] != "ok"],
            "different_answers": len(self.said),
            "gpu_mb": held,
            "each_to_first_token_s": [round(s, 3) for s in up],
            **slopes(ram),
        }

    def asks(self) -> dict[str, Any]:
        """What requests alone leave: in each cycle two, one for its prompt, one for its check."""
        ram = []
        for _ in range(self.options.cycles):
            self.first()
            self.first()
            ram.append(ram_mb(self.made))
        return slopes(ram)

    def cold(self) -> dict[str, Any]:
        """From where `park` rests, with model and image gone from the page cache."""
        depth = "parked" if self.offers("parked") else "light"
        if not self.offers(depth):
            return {"lacks": self.made.status()["lacks"]}
        folders = [self.made.folder / "cache", Path(self.options.model)]
        if self.options.cache:
            folders[0] = Path(self.options.cache)
        took, size = [], 0
        for _ in range(2):
            self.made.rest(depth)
            size = sum(forget(folder) for folder in folders)
            took.append(self.first())
        return {"depth": depth, "to_first_token": spread(took), "forgotten_mb": size // MB}

    def stop(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for depth in ("stopped", "off"):
            if self.offers(depth):
                took = []
                for _ in range(self.options.stops if depth == "stopped" else 1):
                    self.made.rest(depth)
                    took.append(self.first())
                told[f"{depth}_to_first_token"] = spread(took)
        return told

    def turn(self) -> dict[str, Any]:
        """Prompts that come while it is on its way down."""
        took = []
        for delay_s in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
            with Daemon(self.made.socket) as connection:
                list(connection.call("rest"))
            time.sleep(delay_s)
            took.append(self.first())
            time.sleep(0.5)
        return {"served_in": spread(took), "each_s": [round(s, 3) for s in took]}

    def kill(self) -> dict[str, Any]:
        """SIGKILL of the server and of its core, in each depth: all goes, and it serves again."""
        told: dict[str, Any] = {}
        for depth in ("awake", "light", "parked"):
            if depth != "awake" and not self.offers(depth):
                continue
            for victim in ("server", "core"):
                self.first()
                pids = self.made.status()["pids"]
                if depth != "awake":
                    self.made.rest(depth)
                chosen = pids[0] if victim == "server" else pids[-1]
                psutil.Process(chosen).send_signal(signal.SIGKILL)
                began_s = time.monotonic()
                while any(psutil.pid_exists(pid) for pid in pids):
                    if time.monotonic() > began_s + 30:
                        break
                    time.sleep(0.05)
                left = [pid for pid in pids if psutil.pid_exists(pid)]
                gone_s = time.monotonic() - began_s
                told[f"{victim} in {depth}"] = {
                    "left": left,
                    "gone_s": round(gone_s, 2),
                    "gpu_mb": self.gpu.held_mb(),
                    "serves_again_s": round(self.first(), 2),
                }
        return told


def daemon_killed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """SIGKILL of the daemon in each depth: all of it goes, and the memory comes back."""
    told: dict[str, Any] = {}
    for depth in ("awake", "light", "parked", "stopped"):
        gpu = Gpu()
        with daemon(folder / f"killed-{depth}", options) as made:
            ladder = Ladder(made, options)
            ladder.first()
            if depth != "awake":
                if not ladder.offers(depth):
                    continue
                made.rest(depth)
            processes = below(made)
            made.process.kill()
            _, left = psutil.wait_procs(processes, timeout=15)
        told[f"daemon in {depth}"] = {
            "left": [" ".join(p.cmdline())[:80] for p in left],
            "of": len(processes),
            "gpu_mb": gpu.held_mb(),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_options(parser)
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--settle", type=float, default=30.0)
    parser.add_argument("--over", type=float, default=60.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ladder"))
    result: dict[str, Any] = {"bench": "ladder", "machine": machine()}
    with daemon(folder, options) as made:
        ladder = Ladder(made, options)
        result["first_start_s"] = round(ladder.first(), 2)
        result |= {k: made.status()[k] for k in ("version", "lacks")}
        report(result)
        for phase in options.phases.split(","):
            began_s = time.monotonic()
            try:
                result[phase] = getattr(ladder, phase)()
            except Exception as error:  # noqa: BLE001 - the other phases are still worth having
                result[phase] = {"error": repr(error), "log": made.log()[-20:]}
            report({"phase": phase, "took_s": time.monotonic() - began_s, **result[phase]})
        result["transitions"] = made.rows(
            "SELECT from_depth, to_depth, seconds, energy_j, outcome, error FROM ledger_transition"
        )
        result["warnings"] = [line for line in made.log() if WORRY.search(line)]
    if "kill" in options.phases:
        result["daemon_killed"] = daemon_killed(folder, options)
    report(result)


if __name__ == "__main__":
    main()
