"""A ledger of some days, and commands that report it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

from tests.appliance.commands import WATTNAP, wattnap
from tests.appliance.ledgers import BERLIN, Ledger, a_week, hours, ledger

CONFIG = """
state_dir = "{folder}"
[tariff]
per_kwh = {{ "06:00-22:00" = 0.34, "22:00-06:00" = 0.21 }}
co2_g_per_kwh = 380
"""
WEEK = ("--since", "2026-03-02", "--until", "2026-03-09")


def make(folder: Path) -> Path:
    """A configuration, and the ledger of a week in March, a night in October and some requests."""
    with ledger(folder / "wattnap.db") as made:
        a_week(made)
        for hour in hours("2026-10-24T22:00:00Z", 6):
            made.energy(hour)
        some_requests(made)
    config = folder / "wattnap.toml"
    config.write_text(CONFIG.format(folder=folder))
    return config


def some_requests(made: Ledger) -> None:
    made.request("r-1", "2026-03-05T11:00:02.000Z", wake_s=1.3, total_s=3.4)
    made.request("r-2", "2026-03-05T11:00:09.000Z", quality="low", completion_tokens=3)
    made.request(
        "r-3", "2026-03-05T11:01:00.000Z", state="refused", error="unknown_model", model="none",
        energy_source=None, quality=None, marginal_j=None, full_j=None, wake_j=None, tail_j=None,
        completion_tokens=None, period=None,
    )  # fmt: skip
    made.request(
        "r-4", "2026-03-05T11:02:00.000Z", final=0, full_j=None, wake_j=None, tail_j=None,
        client="k\x1b[31mitchen\n", door="mqtt", model="日本語",
    )  # fmt: skip


def told(config: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    result = wattnap(*arguments, config=config, **{"TZ": BERLIN, "LC_ALL": "C.UTF-8"} | environment)
    assert result.returncode == 0, result.stderr
    return result


def as_json(config: Path, *arguments: str) -> Any:  # JSON
    return json.loads(told(config, *arguments, "--json").stdout)


def as_csv(config: Path, *arguments: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(told(config, *arguments, "--csv").stdout)))


def on_a_terminal(config: Path, *arguments: str, columns: int, **environment: str) -> str:
    """What it prints on one, so wide."""
    ours, its = pty.openpty()
    seen = b""
    with subprocess.Popen(
        [*WATTNAP, *arguments], stdout=its, stderr=its,
        env=os.environ | {
            "WATTNAP_CONFIG": str(config), "TZ": BERLIN, "COLUMNS": str(columns), "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
        } | environment,
    ) as process:  # fmt: skip
        os.close(its)
        while chunk := _read(ours):
            seen += chunk
        os.close(ours)
    assert process.returncode == 0
    return seen.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:  # how a terminal ends
        return b""
