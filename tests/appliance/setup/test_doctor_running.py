"""The check-up's other half: the service, the engine, the broker, and what they run on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Engine, Mqtt
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.doctor import gather, judge
from appliance.setup.surroundings import Around, look_around
from drivers.vllm_versions import Install
from tests.appliance.commands import daemon, wattnap, write_config
from tests.appliance.setup.examined import Finder
from tests.brokers import Mosquitto
from tests.trees import BASE, NOBODY, write

UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "ExecMainStatus": "0",
    "MainPID": "1",
}
STATUS: dict[str, Any] = {"state": "asleep", "depth": "off", "engine": "main", "failure": None}
BAKED = {"state": "baked", "missing": ""}


@pytest.mark.parametrize(
    ("unit", "severity", "says", "fix"),
    [
        ({}, Severity.FINE, "runs", ""),
        ({"UnitFileState": "disabled"}, Severity.WARNING, "after a reboot", "systemctl enable"),
        ({"ActiveState": "inactive"}, Severity.WARNING, "stopped", "systemctl start wattnap"),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, Severity.TROUBLE, "78", "journalctl"),
        (
            {"ActiveState": "activating", "SubState": "auto-restart"},
            Severity.TROUBLE,
            "again and again",
            "journalctl",
        ),
        ({"ActiveState": "activating", "SubState": "start"}, Severity.NOTE, "again soon", ""),
        ({"LoadState": "not-found"}, Severity.NOTE, "not installed", "install.sh install"),
    ],
)
def test_the_service(
    seen: Finder, unit: dict[str, str], severity: Severity, says: str, fix: str
) -> None:
    """As systemd tells it."""
    finding = seen("service", unit=UNIT | unit, status=STATUS)

    assert finding is not None
    assert finding.severity is severity
    assert says in finding.says
    assert fix in " ".join(finding.fix)


def test_a_service_that_nobody_knows_of(seen: Finder) -> None:
    """Without systemd, or with a configuration that is not the service's: not a word."""
    assert seen("service") is None


def test_a_configuration_that_waits_for_a_restart(seen: Finder) -> None:
    finding = seen("service", unit=UNIT, status=STATUS, changed=True)

    assert finding is not None
    assert finding.fix == ("sudo systemctl restart wattnap",)


def test_a_daemon_that_does_not_answer(seen: Finder) -> None:
    """It runs, we may ask it, and it says nothing."""
    finding = seen("service", lambda facts: replace(facts, socket="ours"), unit=UNIT)

    assert finding is not None
    assert finding.severity is Severity.WARNING
    assert "does not answer" in finding.says


@pytest.mark.parametrize(
    ("status", "severity", "says"),
    [
        ({}, Severity.FINE, "main: asleep, off"),
        ({"state": "failed", "failure": "no such flag"}, Severity.TROUBLE, "no such flag"),
        ({"failure": "it died"}, Severity.WARNING, "it failed last: it died"),
        ({"smaller": ["a cache of 1 GiB"]}, Severity.WARNING, "a cache of 1 GiB"),
        ({"ledger_rows_lost": 7}, Severity.WARNING, "7 rows"),
    ],
)
def test_the_engine(seen: Finder, status: dict[str, Any], severity: Severity, says: str) -> None:
    """What the daemon knows of it."""
    finding = seen("engine", status=STATUS | status)

    assert finding is not None
    assert finding.severity is severity
    assert says in finding.says


@pytest.mark.parametrize(
    ("bake", "severity"),
    [
        ({"state": "needed"}, Severity.NOTE),
        ({"state": "failed", "reason": "no room"}, Severity.WARNING),
        ({"state": "baked", "missing": "an image"}, Severity.NOTE),
        (BAKED, None),
        (None, None),
    ],
)
def test_the_bake(seen: Finder, bake: dict[str, Any] | None, severity: Severity | None) -> None:
    finding = seen("bake", status=STATUS | {"bake": bake})

    assert (finding and finding.severity) == severity
    assert finding is None or finding.fix == ("wattnap bake",)


@pytest.mark.parametrize(
    ("free_bytes", "severity"),
    [(None, None), (5 << 30, None), (500 << 20, Severity.WARNING), (1 << 20, Severity.TROUBLE)],
)
def test_room(seen: Finder, free_bytes: int | None, severity: Severity | None) -> None:
    finding = seen("room", free_bytes=free_bytes)

    assert (finding and finding.severity) == severity


def test_the_clock(seen: Finder) -> None:
    unset, fine = seen("clock", synchronised=False), seen("clock", synchronised=True)

    assert unset is not None
    assert unset.fix == ("sudo timedatectl set-ntp true",)
    assert fine is not None
    assert fine.severity is Severity.FINE
    assert seen("clock") is None


def test_prices(seen: Finder) -> None:
    def without(facts: Facts) -> Facts:
        return replace(facts, config=Config())

    finding = seen("prices", without)

    assert finding is not None
    assert finding.severity is Severity.NOTE
    assert "per_kwh" in finding.fix[0]


def test_a_damaged_database(tmp_path: Path) -> None:
    """As long as the file is there; its companions are not told of."""
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"wattnap.db.corrupt-20261121T120000Z{end}").touch()
    config = Config(state_dir=str(tmp_path), mqtt=Mqtt(enabled=False))
    facts = gather(config, root=write(tmp_path / "root", BASE), account=NOBODY)
    (finding,) = [each for each in judge(facts).findings if each.what == "database"]

    assert finding.severity is Severity.WARNING
    assert finding.fix == (f"sudo mv {tmp_path}/wattnap.db.corrupt-20261121T120000Z* /var/tmp/",)


@pytest.mark.parametrize(
    ("names", "mode", "says"),
    [
        (("config.json", "model.safetensors"), 0o755, ""),
        (("config.json", "model.bin"), 0o755, "safetensors"),
        (("model.safetensors",), 0o755, "config.json"),
        ((), None, "No such file"),
    ],
)
def test_the_model(tmp_path: Path, names: tuple[str, ...], mode: int | None, says: str) -> None:
    """A folder that vLLM would take: else the configuration is wrong."""
    model = tmp_path / "model"
    if mode is not None:
        model.mkdir(mode)
    for name in names:
        (model / name).touch()
    config = Config(
        state_dir=str(tmp_path), mqtt=Mqtt(enabled=False), engine=Engine(model=str(model))
    )
    facts = gather(config, root=write(tmp_path / "root", BASE))
    report = judge(facts)
    (finding,) = [each for each in report.findings if each.what == "model"]

    assert says in finding.says
    assert finding.severity is (Severity.TROUBLE if says else Severity.FINE)
    assert (report.exit_status == os.EX_CONFIG) is bool(says)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks with another user's eyes")
def test_a_model_that_the_user_may_not_read(tmp_path: Path) -> None:
    """Neither it nor a folder above it may be shut."""
    (tmp_path / "shut").mkdir(0o700)
    model = tmp_path / "shut" / "model"
    model.mkdir()
    config = Config(
        state_dir=str(tmp_path), mqtt=Mqtt(enabled=False), engine=Engine(model=str(model))
    )
    facts = gather(config, root=write(tmp_path / "root", BASE), account=NOBODY)

    assert facts.model_lacks == "user nobody may not read it"


def test_a_model_that_is_only_a_name(seen: Finder) -> None:
    """It may be one to download, or a folder misspelt: both are said before the engine starts."""
    finding = seen("model", lambda facts: replace(facts, model="Qwen/Qwen2.5-7B-Instruct-AWQ"))

    assert finding is not None
    assert finding.severity is Severity.NOTE
    assert "downloads what it knows by that name" in finding.says
    assert finding.fix[-1] == "wattnap model use Qwen2.5-7B-Instruct-AWQ"


def test_a_model_in_a_home(seen: Finder) -> None:
    """The unit's sandbox hides it; by hand it would do."""

    def at_home(facts: Facts) -> Facts:
        return replace(facts, model="/home/ann/Qwen", model_lacks="")

    hidden, shown = seen("model", at_home, unit=UNIT), seen("model", at_home)

    assert hidden is not None
    assert hidden.fix[0] == "sudo wattnap model add /home/ann/Qwen"
    assert shown is not None
    assert shown.severity is Severity.FINE


def test_an_engine_in_a_home(seen: Finder) -> None:
    """Likewise, though root can run it."""

    def at_home(facts: Facts) -> Facts:
        engine = Engine(python="/home/ann/vllm/bin/python")
        return replace(facts, config=Config(engine=engine), install=Install("vllm", "0.32.0"))

    hidden, shown = seen("vLLM", at_home, unit=UNIT), seen("vLLM", at_home)

    assert hidden is not None
    assert hidden.severity is Severity.TROUBLE
    assert "in a home" in hidden.says
    assert shown is not None
    assert shown.severity is Severity.FINE


def greeted(tmp_path: Path, mqtt: Mqtt) -> Finding:
    config = Config(state_dir=str(tmp_path), mqtt=mqtt)
    facts = gather(config, root=write(tmp_path / "root", BASE), account=NOBODY)
    (finding,) = [each for each in judge(facts).findings if each.what == "broker"]
    return finding


def test_a_broker(broker: Mosquitto, tmp_path: Path) -> None:
    """It is greeted; when it is away, what starts it is said; and nobody may be away on purpose."""
    there = Mqtt(port=broker.port)

    assert greeted(tmp_path, there).severity is Severity.FINE

    broker.stop()
    gone = greeted(tmp_path, there)

    assert gone.severity is Severity.WARNING
    assert "mosquitto" in gone.fix[0]
    assert greeted(tmp_path, Mqtt(enabled=False)).severity is Severity.FINE
    assert "mqtt.host" in greeted(tmp_path, Mqtt(host="192.0.2.1")).fix[0]


def test_a_broker_that_wants_a_password(mosquitto: str, tmp_path: Path) -> None:
    """Not the same as one that is away; and a password that is not ours to read is no fault."""
    (tmp_path / "b").mkdir()
    with Mosquitto(mosquitto, tmp_path / "b", "allow_anonymous false\n") as broker:
        refused = greeted(tmp_path, Mqtt(port=broker.port))
        unread = Mqtt(port=broker.port, username="me", password_file="/nowhere/password")
        untried = greeted(tmp_path, unread)

    assert refused.severity is Severity.WARNING
    assert "mqtt.password_file" in refused.fix[0]
    assert untried.severity is Severity.NOTE


@pytest.mark.parametrize(
    ("settings", "lacks"),
    [
        ("", ("persistence true", "autosave_on_changes true", "max_queued_messages")),
        (
            "persistence true\nautosave_on_changes false\nmax_queued_messages 5",
            ("autosave_on_changes true",),
        ),
        ("persistence true\n autosave_on_changes true\nmax_queued_messages 1000000", ()),
        ("listener 8883", ()),
    ],
)
def test_settings_of_mosquitto(tmp_path: Path, settings: str, lacks: tuple[str, ...]) -> None:
    """In either place; of a broker elsewhere nothing is known."""
    files = {"etc/mosquitto/mosquitto.conf": "", "etc/mosquitto/conf.d/wattnap.conf": settings}
    root = write(tmp_path / "root", BASE | files)

    def around(mqtt: Mqtt) -> Around:
        config = Config(state_dir=str(tmp_path), mqtt=mqtt)
        return look_around(config, root=root, may_connect=False)

    assert around(Mqtt()).broker_lacks == lacks
    assert around(Mqtt(port=1884)).broker_lacks == ()
    assert around(Mqtt(host="192.0.2.1")).broker_lacks == ()


def test_a_daemon_that_runs(tmp_path: Path) -> None:
    """It is asked, and goes on sleeping."""
    config = write_config(tmp_path)
    with daemon(config, tmp_path / "log"):
        report = wattnap("doctor", "--json", config=config)
        engine = [f for f in json.loads(report.stdout)["findings"] if f["what"] == "engine"]

        assert engine[0]["says"] == "main: asleep, off"
        assert "asleep" in wattnap("status", config=config).stdout
