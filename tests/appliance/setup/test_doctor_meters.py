"""The check-up of what counts joules: whether it can be read, and the command that helps."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Energy, Mqtt
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.checks.meters import RAPL_RULES, findings, grant_rapl
from appliance.setup.doctor import gather, judge
from appliance.setup.surroundings import Around
from drivers.permissions import Account
from tests.fakes.nvml import Nvml
from tests.trees import BASE as KERNEL
from tests.trees import DESKTOP, NOBODY, SUSPENDED, jetson, write

BASE = KERNEL | {"proc/stat": "cpu  100 0 100 1000 0 0 0 0 0 0\n"}
RAPL = {
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
}
COUNTER = "sys/class/powercap/intel-rapl:0/energy_uj"
PLUG = "tele/box/SENSOR"
DOCS = Path(__file__).parents[3] / "docs/energy.md"

Gathered = Callable[..., Facts]


@pytest.fixture
def gathered(tmp_path: Path) -> Gathered:
    """What a machine made of files shows to a user who owns none of them."""

    def gathered(
        files: Mapping[str, str],
        energy: Energy | None = None,
        *,
        mode: int = 0o444,
        nvml: Nvml | None = None,
        account: Account = NOBODY,
        **options: Any,
    ) -> Facts:
        root = write(tmp_path / "root", files)
        if (root / COUNTER).exists():
            (root / COUNTER).chmod(mode)
        config = Config(
            state_dir=str(tmp_path / "state"),
            runtime_dir=str(tmp_path / "run"),
            mqtt=Mqtt(enabled=False),
            energy=energy or Energy(),
        )
        nvml = nvml or Nvml(TotalEnergyConsumption=5_000_000)
        return gather(config, root=root, nvml=nvml, account=account, **options)

    return gathered


def only(facts: Facts) -> Finding:
    (finding,) = findings(facts)
    return finding


def test_a_gpu_that_counts(gathered: Gathered) -> None:
    """Nothing to mend."""
    finding = only(gathered(DESKTOP | RAPL))

    assert (finding.severity, finding.fix) == (Severity.FINE, ())
    assert finding.says == "nvml counts the joules"


def test_a_gpu_that_sleeps_is_not_asked(gathered: Gathered) -> None:
    """It bills; whether it can be read is known when it is awake, or with --deep."""
    nvml = Nvml()
    finding = only(gathered(DESKTOP | SUSPENDED, nvml=nvml))

    assert nvml.calls == []
    assert finding.severity is Severity.FINE
    assert "it would wake the GPU; `wattnap doctor --deep` does" in finding.says


def test_no_nvml(gathered: Gathered) -> None:
    """The library or the driver does not answer: joules are guessed, and that is told."""
    finding = only(gathered(DESKTOP, nvml=Nvml(opens=False)))

    assert finding.severity is Severity.WARNING
    assert "estimated from CPU time, for nvml cannot be read" in finding.says
    assert "Driver Not Loaded" in finding.says
    assert finding.fix[0].startswith("nvidia-smi")


def test_a_gpu_without_a_counter(gathered: Gathered) -> None:
    """Older than Volta: its power can be added up instead."""
    finding = only(gathered(DESKTOP, nvml=Nvml(PowerUsage=79_000)))

    assert finding.severity is Severity.WARNING
    assert "Not Supported" in finding.says
    assert 'in wattnap.toml: energy.meter = "nvml_power"' in finding.fix


def test_rapl_is_for_root_only(gathered: Gathered) -> None:
    """As most kernels have it. Root sees that the service's user may not, either."""
    finding = only(gathered(BASE | RAPL, mode=0o400))

    assert finding.severity is Severity.WARNING
    assert "estimated from CPU time, for rapl cannot be read" in finding.says
    assert "user nobody may not read" in finding.says
    assert any(RAPL_RULES in command for command in finding.fix)
    assert any("systemd-tmpfiles --create" in command for command in finding.fix)


def test_rapl_that_may_be_read(gathered: Gathered) -> None:
    finding = only(gathered(BASE | RAPL))

    assert (finding.says, finding.severity) == ("rapl counts the joules", Severity.FINE)


@pytest.mark.parametrize(
    ("meter", "status", "says"),
    [("rapl", os.EX_NOPERM, "may not read"), ("nvml", os.EX_CONFIG, "Driver Not Loaded")],
)
def test_a_meter_that_is_named_and_cannot_be_read(
    gathered: Gathered, meter: Any, status: int, says: str
) -> None:
    """The daemon would not start: so says the exit code."""
    nvml = Nvml(opens=False)
    finding = only(gathered(BASE | RAPL, Energy(meter=meter), mode=0o400, nvml=nvml))

    assert finding.severity is Severity.TROUBLE
    assert finding.exit_status == status
    assert says in finding.says
    assert finding.fix


def test_the_commands_grant_what_the_documents_say(tmp_path: Path) -> None:
    """They write just those lines."""
    told = grant_rapl("wattnap")[0].replace(f"sudo tee {RAPL_RULES}", f"tee {tmp_path}/rules")
    subprocess.run(["sh", "-c", told], check=True, stdout=subprocess.DEVNULL)
    lines = re.findall(r"^z /sys.*$", DOCS.read_text(), re.MULTILINE)

    assert (tmp_path / "rules").read_text().splitlines() == lines
    assert len(lines) == 2


def test_nothing_here_counts(gathered: Gathered) -> None:
    """Not amiss, but a plug would do better."""
    finding = only(gathered(BASE))

    assert finding.severity is Severity.NOTE
    assert "a smart plug is one" in finding.says.lower()
    assert 'in wattnap.toml: energy.meter = "plug"' in finding.fix


@pytest.mark.parametrize(
    ("meter", "severity", "says"),
    [("none", Severity.NOTE, "no joules"), ("cpu_time", Severity.FINE, "as energy.meter says")],
)
def test_as_it_was_wanted(gathered: Gathered, meter: Any, severity: Severity, says: str) -> None:
    """Whoever chose it knows."""
    finding = only(gathered(BASE | RAPL, Energy(meter=meter), mode=0o400))

    assert finding.severity is severity
    assert says in finding.says


def test_one_that_is_read_beside(gathered: Gathered) -> None:
    """It bills nothing, so that the daemon starts; but what it would say is missing."""
    energy = Energy(meter="cpu_time", also=("rapl",))
    _, beside = findings(gathered(BASE | RAPL, energy, mode=0o400))

    assert beside.severity is Severity.WARNING
    assert "energy.also has rapl, which is not recorded" in beside.says
    assert beside.fix


def test_a_silent_plug(gathered: Gathered) -> None:
    """So the running daemon says: how to hear whether it speaks, and to let it speak more often."""
    facts = gathered(BASE)
    config = Config(
        mqtt=Mqtt(host="broker.lan", username="wattnap"),
        energy=Energy(meter="plug", plug_topic=PLUG),
    )
    said = {"plug": f"plug at {PLUG}: has said nothing for 700 s"}
    status = {"energy": {"not_measured": said}}
    assert facts.meters is not None
    facts = replace(
        facts,
        config=config,
        meters=replace(facts.meters, kind="plug"),
        around=Around(status=status),
    )
    finding = only(facts)

    assert finding.severity is Severity.WARNING
    assert "has said nothing for 700 s" in finding.says
    hear, speak = finding.fix
    assert hear.startswith("mosquitto_sub -h broker.lan -p 1883 -u wattnap -P PASSWORD")
    assert speak.endswith("-t cmnd/box/TelePeriod -m 10")


def test_a_plug_that_is_not_named(gathered: Gathered) -> None:
    """Which one it is nobody can guess."""
    facts = gathered(BASE, Energy(meter="plug"))
    finding = only(facts)

    assert finding.severity is Severity.TROUBLE
    assert "energy.plug_topic" in finding.says
    assert 'in wattnap.toml: energy.plug_topic = "tele/NAME/SENSOR"' in finding.fix


def test_a_board(tmp_path: Path) -> None:
    """A Jetson's own sensors; and it is one of the findings of a whole check-up."""
    root = jetson("orin-nx", tmp_path / "root")
    config = Config(state_dir=str(tmp_path), mqtt=Mqtt(enabled=False))
    report = judge(gather(config, root=root, nvml=Nvml(), account=NOBODY))

    assert [f.says for f in report.findings if f.what == "meter"] == ["ina3221 counts the joules"]
