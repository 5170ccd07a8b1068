"""The check-up: machines as files, an engine's Python in a few lines, NVML in memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.setup.checks.findings import COULD_BE_BETTER, Severity
from appliance.setup.doctor import gather, judge
from tests.appliance.setup.examined import AWAKE, Examine, config_in, found, without
from tests.fakes.nvml import Nvml
from tests.fakes.python_with_vllm import python_with
from tests.trees import (
    BASE,
    BOARDS,
    DESKTOP,
    DRIVER,
    GPU,
    NOBODY,
    PCI,
    PERSISTENCED,
    SUSPENDED,
    old_driver,
    write,
)


def test_a_desktop_that_is_all_right(examined: Examine) -> None:
    """Nothing to mend but what is not running yet, or not downloaded; it says what it saw."""
    report = examined(DESKTOP)

    assert report.subject == "NVIDIA H200 · driver 580.159.04 · 62.7 GiB RAM"
    assert report.exit_status == os.EX_OK
    assert {f.what for f in report.findings if f.severity is not Severity.FINE} == {
        "socket",
        "model",
    }
    assert "active" in found(report, "GPU").says
    assert "vllm 0.32.0" in found(report, "vLLM").says


@pytest.mark.parametrize(
    ("version", "keys", "noted"),
    [
        ("0.32.0", {}, True),
        ("0.18.0", {}, False),
        ("0.32.0", {"load_format": "safetensors"}, False),
        ("0.32.0", {"device": "cpu"}, False),
        ("0.32.0", {"model": "some/name"}, False),
    ],
)
def test_an_engine_of_ones_own_may_load_slowly(
    examined: Examine, tmp_path: Path, version: str, keys: dict[str, Any], *, noted: bool
) -> None:
    """What would make it quick, where it would; what works is not called a fault."""
    python = str(python_with(tmp_path / "own", version))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").touch()
    keys = {"model": str(tmp_path / "model"), "python": python} | keys
    report = examined(DESKTOP, config_in(tmp_path, **keys))
    findings = [finding for finding in report.findings if finding.what == "weights"]

    assert bool(findings) is noted
    for finding in findings:
        assert finding.severity is Severity.NOTE
        assert finding.fix == (f"{python} -m pip install instanttensor",)


@pytest.mark.parametrize(
    ("files", "what", "says", "fix"),
    [
        (without(DRIVER, GPU), "driver", "installed, but not loaded", "modprobe nvidia"),
        (BASE | PCI, "driver", "not installed", "ubuntu-drivers install"),
        (DESKTOP | old_driver("580.82.07"), "boost switch", "580.105", "ubuntu-drivers install"),
        (without({"dev/nvidiactl": ""}), "GPU", "no /dev/nvidiactl is passed in", ""),
    ],
)
def test_what_keeps_a_gpu_from_its_best(
    examined: Examine, files: dict[str, str], what: str, says: str, fix: str
) -> None:
    """It still serves, on the CPU if need be: warnings, each with what mends it."""
    report = examined(files)
    finding = found(report, what)

    assert report.exit_status == COULD_BE_BETTER
    assert finding.severity is Severity.WARNING
    assert says in finding.says
    assert fix in " ".join(finding.fix)


@pytest.mark.parametrize("files", [BASE, BASE | PCI, without(DRIVER, GPU)])
def test_a_gpu_that_is_asked_for_and_cannot_be_used(
    examined: Examine, tmp_path: Path, files: dict[str, str]
) -> None:
    """Then it is trouble."""
    report = examined(files, config_in(tmp_path, device="cuda"))

    assert report.exit_status == os.EX_UNAVAILABLE
    assert found(report, "GPU").severity is Severity.TROUBLE


def test_a_driver_too_old_for_this_very_vllm(tmp_path: Path) -> None:
    """Which one it needs is said."""
    root = write(tmp_path / "root", DESKTOP | old_driver("550.54.14"))
    facts = gather(config_in(tmp_path), root=root, nvml=Nvml(), account=NOBODY)
    report = judge(replace(facts, needed_driver="580.65"))

    assert report.exit_status == os.EX_UNAVAILABLE
    assert found(report, "driver").says == "550.54.14 is too old: this vLLM needs 580.65"
    assert found(judge(replace(facts, needed_driver="550.54")), "driver").says.endswith("loaded")


def test_no_gpu(examined: Examine) -> None:
    """Is no fault."""
    report = examined(BASE)

    assert report.exit_status == os.EX_OK
    assert found(report, "GPU").severity is Severity.NOTE
    assert report.subject.startswith("no NVIDIA GPU")


def test_a_suspended_gpu_sleeps_on(examined: Examine) -> None:
    """No NVML is opened, and no device; unless one asks for it."""
    nvml = Nvml(**AWAKE)
    opened: list[str] = []

    def watch(root: Path) -> None:
        for node in (root / "dev").iterdir():
            node.unlink()
            os.mkfifo(node, 0o666)  # whoever opens it to read would wait for ever
            node.chmod(0o666)
            opened.append(node.name)

    report = examined(DESKTOP | SUSPENDED, change=watch, nvml=nvml)

    assert opened
    assert nvml.calls == []
    assert "suspended" in found(report, "GPU").says
    assert "--deep" in found(report, "clocks").says


def test_looking_deep(examined: Examine) -> None:
    """NVML is opened, and closed again."""
    nvml = Nvml(**AWAKE)
    report = examined(DESKTOP | SUSPENDED, nvml=nvml, deep=True)

    assert (nvml.calls[0], nvml.calls[-1]) == ("Init", "Shutdown")
    assert found(report, "clocks").says == "free to follow the load"


@pytest.mark.parametrize(
    ("deep", "answers", "severity", "says"),
    [
        (False, AWAKE, Severity.NOTE, "not known"),
        (True, AWAKE, Severity.FINE, "own mode"),
        (True, AWAKE | {"PersistenceMode": 0}, Severity.WARNING, "off"),
    ],
)
def test_persistence(
    examined: Examine, deep: bool, answers: dict[str, Any], severity: Severity, says: str
) -> None:
    """Without the daemon, only NVML knows; and it is not opened unasked."""
    nvml = Nvml(**answers)
    finding = found(examined(without(PERSISTENCED), nvml=nvml, deep=deep), "persistence")

    assert bool(nvml.calls) is deep
    assert finding.severity is severity
    assert says in finding.says
    assert bool(finding.fix) is (severity is not Severity.FINE)


def test_pinned_clocks(examined: Examine) -> None:
    """With the commands that free them."""
    nvml = Nvml(**AWAKE | {"ClockInfo": 1980})
    finding = found(examined(DESKTOP, nvml=nvml), "clocks")

    assert finding.severity is Severity.WARNING
    assert "sudo nvidia-smi --reset-gpu-clocks" in finding.fix


def test_devices_that_may_not_be_used(examined: Examine) -> None:
    """By whom, which, and what helps: 77."""
    report = examined(DESKTOP, change=lambda root: (root / "dev/nvidia0").chmod(0o600))
    finding = found(report, "devices")

    assert report.exit_status == os.EX_NOPERM
    assert finding.says == "user nobody may not use /dev/nvidia0"
    assert finding.fix == ("sudo chmod a+rw /dev/nvidia0",)


@pytest.mark.parametrize("board", BOARDS)
def test_a_jetson(examined: Examine, board: str) -> None:
    """Its rungs, its mode, its memory; NVML is not asked."""
    nvml = Nvml(**AWAKE)
    report = examined(board, nvml=nvml)
    rungs = {rung.depth: rung.why_not for rung in report.rungs}

    assert report.exit_status == os.EX_OK
    assert nvml.calls == []
    assert report.subject.startswith("Jetson ")
    assert "MAXN" in found(report, "power mode").says
    assert "4 at once" in found(report, "unified memory").says
    assert "share their memory" in rungs["parked"]
    assert found(report, "swap").severity is Severity.NOTE


def test_jetson_clocks_that_are_pinned(examined: Examine) -> None:
    def pin(root: Path) -> None:
        (root / "sys/class/devfreq/17000000.gpu/min_freq").write_text("918000000\n")

    finding = found(examined("orin-nx", change=pin), "clocks")

    assert finding.severity is Severity.WARNING
    assert "918 MHz" in finding.says
    assert "jetson_clocks" in finding.fix[0]


def test_jetson_devices_that_may_not_be_used(examined: Examine) -> None:
    report = examined("orin-nano", change=lambda root: (root / "dev/nvmap").chmod(0o660))

    assert report.exit_status == os.EX_NOPERM
    assert "/dev/nvmap" in found(report, "devices").says
