"""What the check-up advises can be done on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Mqtt
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Severity
from appliance.setup.surroundings import look_around
from drivers.probe import probe
from tests.appliance.setup.examined import Finder
from tests.trees import BASE, BOOTED, DESKTOP, PERSISTENCED, write

OURS = "sudo cp systemd/mosquitto.conf /etc/mosquitto/conf.d/wattnap.conf"
DEBIANS = "in /etc/mosquitto/mosquitto.conf: persistence true"
RESTART = "sudo systemctl restart mosquitto"
STATUS: dict[str, Any] = {"state": "asleep", "depth": "off", "engine": "main", "failure": None}
UNIT = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
AWAY: dict[str, Any] = {"broker": "connection refused", "mosquitto": True}


@pytest.mark.parametrize(
    ("lacks", "systemd", "fix"),
    [
        (("persistence true",), True, (DEBIANS, RESTART)),
        (("autosave_on_changes true",), True, (OURS, RESTART)),
        (("persistence true", "max_queued_messages"), True, (DEBIANS, OURS, RESTART)),
        (("max_queued_messages",), False, (OURS, "sudo pkill -HUP -x mosquitto")),
    ],
)
def test_mosquitto_that_may_lose_something(
    seen: Finder, lacks: tuple[str, ...], systemd: bool, fix: tuple[str, ...]
) -> None:
    """The file that has the settings is named, and it is there."""
    finding = seen("mosquitto", broker_lacks=lacks, systemd=systemd)

    assert finding is not None
    assert finding.severity is Severity.WARNING
    assert lacks[0] in finding.says
    assert finding.fix == fix
    assert (Path(__file__).parents[3] / "systemd" / "mosquitto.conf").is_file()


def with_mqtt(facts: Facts) -> Facts:
    return replace(facts, config=Config(mqtt=Mqtt()))


def without_vllm(facts: Facts) -> Facts:
    return replace(facts, install="there is none", other_python="")


def without_persistence(facts: Facts) -> Facts:
    root = write(Path(facts.config.state_dir) / "desktop", DESKTOP)
    (root / next(iter(PERSISTENCED))).unlink()
    return replace(facts, machine=probe(root))


@pytest.mark.parametrize(
    ("what", "change", "around", "with_it", "without"),
    [
        ("broker", with_mqtt, AWAY, "systemctl enable --now mosquitto", "sudo mosquitto -d -c"),
        ("clock", None, {"synchronised": False}, "timedatectl", ""),
        ("room", None, {"free_bytes": 1}, "journalctl --vacuum-size", "sudo du -xh"),
        ("vLLM", without_vllm, {}, "install.sh install", "engine.python"),
        ("persistence", without_persistence, {}, "systemctl enable --now", "nvidia-smi"),
    ],
)
def test_without_systemd(
    seen: Finder,
    what: str,
    change: Callable[[Facts], Facts] | None,
    around: dict[str, Any],
    with_it: str,
    without: str,
) -> None:
    """Nothing is left to it: another command does, or none is named."""
    booted = seen(what, change, systemd=True, **around)
    other = seen(what, change, systemd=False, **around)

    assert booted is not None
    assert other is not None
    assert with_it in " ".join(booted.fix)
    assert without in " ".join(other.fix)
    assert "systemctl" not in " ".join(other.fix)
    assert with_it not in " ".join(other.fix)


@pytest.mark.parametrize(
    ("status", "of_service", "by_hand"),
    [
        ({"failure": "it died"}, "journalctl -u wattnap", "what `wattnap run` has printed"),
        ({"smaller": ["a cache"]}, "systemctl restart wattnap", "wattnap run    # again"),
    ],
)
def test_a_daemon_that_is_no_service(
    seen: Finder, status: dict[str, Any], of_service: str, by_hand: str
) -> None:
    """Its log and its restart are not systemd's."""
    service = seen("engine", unit=UNIT, status=STATUS | status)
    other = seen("engine", status=STATUS | status)

    assert service is not None
    assert other is not None
    assert of_service in " ".join(service.fix)
    assert by_hand in " ".join(other.fix)


@pytest.mark.parametrize(
    ("unit", "fix"),
    [
        (UNIT, "sudo ./install.sh install --broker mqtt://USER:PASSWORD@HOST"),
        (None, "in wattnap.toml: mqtt.username, mqtt.password_file"),
    ],
)
def test_a_broker_that_refuses_us(seen: Finder, unit: dict[str, str] | None, fix: str) -> None:
    """The whole appliance is installed by nobody who has not done so already."""
    finding = seen("broker", with_mqtt, unit=unit, broker="not authorised", broker_code=135)

    assert finding is not None
    assert finding.fix == (fix,)


@pytest.mark.parametrize(("more", "systemd"), [({}, False), (BOOTED, True)])
def test_whether_systemd_runs_the_machine(
    tmp_path: Path, more: dict[str, str], systemd: bool
) -> None:
    """As sd_booted(3) tells it: the programs alone, in a container, are not enough."""
    root = write(tmp_path / "root", BASE | more)
    config = Config(state_dir=str(tmp_path), mqtt=Mqtt(enabled=False))

    assert look_around(config, root=root, may_connect=False).systemd is systemd
