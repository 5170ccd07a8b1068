"""Checks of what runs (service, engine, broker), and of what it runs on. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.checks.installation import HIDDEN
from appliance.setup.checks.remedies import (
    JOURNAL,
    RESTART,
    log,
    restart,
    set_up_broker,
    start_broker,
)
from appliance.setup.models import in_the_box
from appliance.setup.surroundings import is_here

LITTLE_BYTES, TOO_LITTLE_BYTES = 1 << 30, 64 << 20


def findings(facts: Facts) -> Iterator[Finding]:
    for check in (_service, _engine, _bake, _model, _broker, _mosquitto, _room, _clock, _database):
        found = check(facts)
        if found is not None:
            yield found
    yield _prices(facts)


def _service(facts: Facts) -> Finding | None:
    unit = facts.around.unit
    if unit is None or not unit.get("LoadState"):
        return None
    if unit["LoadState"] == "not-found":
        return Finding(
            what="service",
            says="not installed on this machine",
            severity=Severity.NOTE,
            fix=("sudo ./install.sh install",),
        )
    if unit["ActiveState"] == "active":
        return _running(facts, unit)
    state, why = unit["ActiveState"], f"{unit['Result']}, exit status {unit['ExecMainStatus']}"
    if state == "failed" or unit["SubState"] == "auto-restart":
        again = "; it is started again and again" if state != "failed" else ""
        return Finding(
            what="service",
            says=f"the daemon fails ({why}){again}",
            severity=Severity.TROUBLE,
            fix=(JOURNAL, RESTART),
        )
    if state == "inactive":
        starts = "; a prompt at the socket starts it, one over MQTT does not"
        return Finding(
            what="service",
            says="stopped" + (starts if facts.socket != "absent" else ""),
            severity=Severity.WARNING,
            fix=("sudo systemctl start wattnap",),
        )
    return Finding(what="service", says=f"{state}: look again soon", severity=Severity.NOTE)


def _running(facts: Facts, unit: Mapping[str, str]) -> Finding:
    around = facts.around
    fix: tuple[str, ...] = (RESTART,)
    if around.changed:
        said = "the configuration was changed after it had started"
    elif unit["UnitFileState"] == "disabled":
        said, fix = "it runs, but would not after a reboot", ("sudo systemctl enable wattnap",)
    elif facts.socket == "ours" and around.status is None:
        said, fix = "it runs, but does not answer", (JOURNAL, *fix)
    else:
        return Finding(what="service", says="runs, and is started at boot")
    return Finding(what="service", says=said, severity=Severity.WARNING, fix=fix)


def _engine(facts: Facts) -> Finding | None:
    status = facts.around.status
    if status is None:
        return None
    alias, depth = status["engine"], status["depth"]
    if status.get("failure"):
        fails = status["state"] == "failed"
        return Finding(
            what="engine",
            says=f"{'does not start' if fails else 'it failed last'}: {status['failure']}",
            severity=Severity.TROUBLE if fails else Severity.WARNING,
            fix=(log(facts), "wattnap wake"),
        )
    if status.get("smaller"):
        return Finding(
            what="engine",
            says=f"smaller than configured, which did not fit: {', '.join(status['smaller'])};"
            " make room, then have it try again",
            severity=Severity.WARNING,
            fix=(f"sudo rm {facts.config.cache_dir}/fit-{alias}.json", restart(facts)),
        )
    if lost := status.get("ledger_rows_lost"):
        return Finding(
            what="engine",
            says=f"{lost} rows of the log were lost while the disk was full",
            severity=Severity.WARNING,
        )
    where = status["state"] if status["state"] == depth else f"{status['state']}, {depth}"
    return Finding(what="engine", says=f"{alias}: {where}")


def _bake(facts: Facts) -> Finding | None:
    told = (facts.around.status or {}).get("bake") or {}
    match told.get("state"):
        case "needed":
            said, severity = "the next start takes longer than it must", Severity.NOTE
        case "failed":
            said, severity = f"it failed: {told['reason']}", Severity.WARNING
        case "baked" if told.get("missing"):
            said, severity = f"wakes could be quicker: {told['missing']}", Severity.NOTE
        case _:
            return None
    return Finding(what="bake", says=said, severity=severity, fix=("wattnap bake",))


def _model(facts: Facts) -> Finding | None:
    if not facts.real_engine:
        return None
    name = Path(facts.model).name
    fix: tuple[str, ...]
    if not Path(facts.model).is_absolute():
        said = f"{facts.model} is no absolute path: vLLM downloads what it knows by that name"
        said += ", and the service may not leave your network" if facts.installed else ""
        fix = ("wattnap model add FOLDER", f"wattnap model use {name}")
        return Finding(what="model", says=said, severity=Severity.NOTE, fix=fix)
    if facts.installed and facts.model.startswith(HIDDEN):
        said = f"{facts.model} is in a home, which the service cannot see: have it copied"
        fix = (
            f"sudo wattnap model add {facts.model}",
            'in wattnap.toml: engine.model = ""',
            f"sudo wattnap model use {name}",
        )
    elif facts.model_lacks:
        said = f"{facts.model}: {facts.model_lacks}"
        fix = ("wattnap model list", 'in wattnap.toml: engine.model = "", or another folder')
    else:
        named = "the small one in the box" if in_the_box(facts.model) else facts.model
        return Finding(what="model", says=named)
    return Finding(
        what="model", says=said, severity=Severity.TROUBLE, fix=fix, exit_status=os.EX_CONFIG
    )


def _broker(facts: Facts) -> Finding:
    mqtt, around = facts.config.mqtt, facts.around
    place = f"{mqtt.host}:{mqtt.port}"
    if not mqtt.enabled:
        return Finding(what="broker", says="none, as configured: no prompts over MQTT")
    if around.broker_unasked:
        return Finding(
            what="broker",
            says=f"{place} was not tried: {around.broker_unasked}",
            severity=Severity.NOTE,
            fix=("sudo wattnap doctor",),
        )
    if not around.broker:
        return Finding(what="broker", says=f"{place} answers")
    fix: tuple[str, ...]
    if around.broker_code and facts.installed:
        fix = ("sudo ./install.sh install --broker mqtt://USER:PASSWORD@HOST",)
    elif around.broker_code:
        fix = ("in wattnap.toml: mqtt.username, mqtt.password_file",)
    elif not is_here(mqtt):
        fix = ("in wattnap.toml: mqtt.host, mqtt.port, mqtt.tls",)
    elif around.mosquitto:
        fix = start_broker(facts)
    else:
        fix = (
            "sudo apt-get install mosquitto",
            "in wattnap.toml: mqtt.enabled = false, to do without",
        )
    return Finding(
        what="broker",
        says=f"{place}: {around.broker}. No prompts over MQTT until it takes us",
        severity=Severity.WARNING,
        fix=fix,
    )


def _mosquitto(facts: Facts) -> Finding | None:
    if not facts.around.broker_lacks:
        return None
    lacks = ", ".join(facts.around.broker_lacks)
    return Finding(
        what="mosquitto",
        says=f"not set: {lacks}. It may lose what it has acknowledged (docs/mqtt.md)",
        severity=Severity.WARNING,
        fix=set_up_broker(facts),
    )


def _room(facts: Facts) -> Finding | None:
    free_bytes, folder = facts.around.free_bytes, facts.config.state_dir
    if free_bytes is None or free_bytes >= LITTLE_BYTES:
        return None
    return Finding(
        what="room",
        says=f"{free_bytes >> 20} MiB left in {folder}: when it is full, prompts are refused",
        severity=Severity.TROUBLE if free_bytes < TOO_LITTLE_BYTES else Severity.WARNING,
        fix=(
            f"sudo du -xh {folder} | sort -h | tail",
            *(("sudo journalctl --vacuum-size=100M",) if facts.around.systemd else ()),
        ),
    )


def _clock(facts: Facts) -> Finding | None:
    if facts.around.synchronised is None:
        return None
    if facts.around.synchronised:
        return Finding(what="clock", says="synchronised")
    return Finding(
        what="clock",
        says="not synchronised: deadlines across a reboot begin anew, and windows and tariffs"
        " go by a time that may be wrong",
        severity=Severity.NOTE,
        fix=("sudo timedatectl set-ntp true",) if facts.around.systemd else (),
    )


def _database(facts: Facts) -> Finding | None:
    if not facts.around.set_aside:
        return None
    return Finding(
        what="database",
        says=f"{', '.join(facts.around.set_aside)}: damaged, and set aside. Ask why"
        " (docs/storage.md), then move it away",
        severity=Severity.WARNING,
        fix=tuple(f"sudo mv {path}* /var/tmp/" for path in facts.around.set_aside),
    )


def _prices(facts: Facts) -> Finding:
    tariff = facts.config.tariff
    if tariff.per_kwh:
        return Finding(what="prices", says=f"in {tariff.currency}, by [tariff]")
    return Finding(
        what="prices",
        says="none: `wattnap energy` shows joules, and no money",
        severity=Severity.NOTE,
        fix=("in wattnap.toml: tariff.per_kwh = 0.30",),
    )
