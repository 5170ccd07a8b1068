"""`wattnap doctor` as a user runs it, on whatever machine this is."""

from __future__ import annotations

import json
import os
import tarfile
import time
from pathlib import Path

from appliance.setup.checks.findings import COULD_BE_BETTER
from tests.appliance.commands import wattnap, write_config
from tests.fakes.python_with_vllm import python_with


def test_without_a_configuration(tmp_path: Path) -> None:
    """It answers, soon, and says where it stands with vLLM."""
    began_s = time.monotonic()
    result = wattnap("doctor")

    assert time.monotonic() - began_s < 3
    assert result.returncode in {os.EX_OK, os.EX_UNAVAILABLE, os.EX_NOPERM, os.EX_CONFIG}
    assert result.stderr == ""
    assert "vLLM" in result.stdout
    assert "\x1b" not in result.stdout


def test_json(tmp_path: Path) -> None:
    """One line, with the exit code in it."""
    config = write_config(
        tmp_path, f'[engine]\npython = "{python_with(tmp_path, "0.32.0")}"\ndevice = "cpu"\n'
    )
    (tmp_path / "state").mkdir()
    result = wattnap("doctor", "--json", config=config)
    (line,) = result.stdout.splitlines()
    report = json.loads(line)

    assert result.returncode == report["exit_status"]
    assert result.returncode in {os.EX_OK, COULD_BE_BETTER}  # this machine's disk may be slow
    assert [rung["depth"] for rung in report["rungs"]] == [
        "awake",
        "light",
        "parked",
        "stopped",
        "off",
    ]
    assert {finding["severity"] for finding in report["findings"]} <= {"fine", "note", "warning"}
    assert list((tmp_path / "state").iterdir()) == []


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """Is a finding among others, and the exit code."""
    config = write_config(tmp_path, "[powr]\n")
    result = wattnap("doctor", config=config)

    assert result.returncode == os.EX_CONFIG
    assert "powr" in result.stdout
    assert "memory" in result.stdout


def test_capturing_this_machine(tmp_path: Path) -> None:
    """A small archive, and no other is overwritten."""
    file = tmp_path / "tree.tar.gz"
    result = wattnap("doctor", "--capture-tree", str(file))
    again = wattnap("doctor", "--capture-tree", str(file), "--json")
    with tarfile.open(file) as tar:
        names = tar.getnames()

    assert result.returncode == 0
    assert "proc/meminfo" in names
    assert file.stat().st_size < 1 << 20
    assert again.returncode == os.EX_NOINPUT
    assert "File exists" in again.stderr
