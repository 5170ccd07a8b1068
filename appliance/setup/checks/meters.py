"""Checks of what counts joules: whether it can be read, and if not, what would help. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from appliance.config import Config, MeterKind
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.checks.installation import SERVICE
from appliance.setup.checks.remedies import RESTART, restart
from appliance.setup.meter_look import MeterFailure

RAPL_RULES = "/etc/tmpfiles.d/wattnap-rapl.conf"
RAPL_FILES = "/sys/devices/virtual/powercap/intel-rapl"
SILENT_S = 330
"""Longest that a Tasmota is silent, as it comes."""


def findings(facts: Facts) -> Iterator[Finding]:
    seen, energy = facts.meters, facts.config.energy
    if seen is None:
        return
    if seen.kind is None:
        yield Finding(
            what="meter",
            says='energy.meter is "none": no joules are counted',
            severity=Severity.NOTE,
            fix=('in wattnap.toml: energy.meter = "auto"',),
        )
        return
    yield _billing(facts, seen.kind, seen.unasked)
    for other in energy.also:
        failure = seen.failures.get(other)
        if says := failure.says if failure else _silent(facts, other):
            yield Finding(
                what="meter",
                says=f"energy.also has {other}, which is not recorded: {says}",
                severity=Severity.WARNING,
                fix=_remedy(facts, other, failure),
            )


def _billing(facts: Facts, kind: MeterKind, unasked: str) -> Finding:
    seen, named = facts.meters, facts.config.energy.meter
    assert seen is not None
    if failure := seen.failures.get(kind):
        return Finding(
            what="meter",
            says=f"energy.meter is {kind}, without which the daemon does not start: {failure.says}",
            severity=Severity.TROUBLE,
            fix=_remedy(facts, kind, failure),
            exit_status=os.EX_NOPERM if failure.forbidden else os.EX_CONFIG,
        )
    if says := _silent(facts, kind):
        return Finding(
            what="meter",
            says=f"the daemon measures nothing now: {says}",
            severity=Severity.WARNING,
            fix=_remedy(facts, kind),
        )
    if kind == "cpu_time":
        return _estimate(facts)
    if kind == "plug":
        return Finding(what="meter", says=f"the plug at {facts.config.energy.plug_topic}, by MQTT")
    said = f"{kind}, as energy.meter says" if named == kind else kind
    note = f"; it was not looked at: {unasked}" if unasked else " counts the joules"
    return Finding(what="meter", says=said + note)


def _silent(facts: Facts, kind: MeterKind) -> str:
    """What the daemon that runs hears from it instead of joules; "": it counts."""
    energy = (facts.around.status or {}).get("energy") or {}
    said: str = (energy.get("not_measured") or {}).get(kind.replace("_", "-"), "")
    return said


def _estimate(facts: Facts) -> Finding:
    """From CPU time: because that is wanted, or because nothing better can be read."""
    assert facts.meters is not None
    said = "joules are estimated from CPU time"
    if facts.config.energy.meter == "cpu_time":
        return Finding(what="meter", says=f"{said}, as energy.meter says")
    for kind, failure in facts.meters.failures.items():
        # That there is no RAPL is so on many machines; a GPU's meter has a reason.
        if failure.forbidden or kind != "rapl":
            return Finding(
                what="meter",
                says=f"{said}, for {kind} cannot be read: {failure.says}",
                severity=Severity.WARNING,
                fix=_remedy(facts, kind, failure),
            )
    return Finding(
        what="meter",
        says=f"{said}: there is no meter here. A smart plug is one (docs/energy.md)",
        severity=Severity.NOTE,
        fix=(
            'in wattnap.toml: energy.meter = "plug"',
            'in wattnap.toml: energy.plug_topic = "tele/NAME/SENSOR"',
        ),
    )


def _remedy(facts: Facts, kind: MeterKind, failure: MeterFailure | None = None) -> tuple[str, ...]:
    match kind:
        case "rapl" if failure and failure.forbidden:
            return grant_rapl(SERVICE if facts.installed else "")
        case "nvml" if failure and failure.unable:
            return ('in wattnap.toml: energy.meter = "nvml_power"',)
        case "nvml" | "nvml_power" if failure and failure.forbidden:
            return (
                f"sudo usermod --append --groups video,render {facts.account.name}",
                restart(facts),
            )
        case "nvml" | "nvml_power":
            return (
                "nvidia-smi --query-gpu=power.draw --format=csv",
                'in wattnap.toml: energy.meter = "auto"',
            )
        case "plug":
            return _wake_plug(facts.config)
    return ("wattnap meter list", 'in wattnap.toml: energy.meter = "auto"')


def grant_rapl(group: str) -> tuple[str, ...]:
    """Commands that let a group read the counters, now and after each boot. "": one's own."""
    rules = "printf 'z " + RAPL_FILES + "/%s/energy_uj 0440 root %s\\n'"
    whose = group or '"$(id -gn)"'
    return (
        f"{rules} '*' {whose} '*/*' {whose} | sudo tee {RAPL_RULES}",
        f"sudo systemd-tmpfiles --create {RAPL_RULES}",
        *((RESTART,) if group else ()),
    )


def _wake_plug(config: Config) -> tuple[str, ...]:
    """Hear whether it speaks; then let it speak often enough."""
    mqtt, topic = config.mqtt, config.energy.plug_topic
    if not topic:
        return ('in wattnap.toml: energy.plug_topic = "tele/NAME/SENSOR"',)
    broker = f"-h {mqtt.host} -p {mqtt.port}"
    login = f" -u {mqtt.username} -P PASSWORD" if mqtt.username else ""
    hear = f"mosquitto_sub {broker}{login} -t {shlex.quote(topic)} -v -C 1 -W {SILENT_S}"
    place, _, rest = topic.partition("/")
    name, _, last = rest.rpartition("/")
    if place == "tele" and last == "SENSOR" and name:
        often = shlex.quote(f"cmnd/{name}/TelePeriod")
        return (hear, f"mosquitto_pub {broker}{login} -t {often} -m 10")
    return (hear, "on the plug: generic status update over MQTT (docs/energy.md)")
