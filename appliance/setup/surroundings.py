"""Looks at what runs beside a check-up: the service, the daemon, its broker, the clock.

Starts nothing: systemd opens the socket of a service that is stopped, and whoever
connects starts it, so nobody does here. The broker is greeted, and left at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import replace

from appliance.clock import SystemClock
from appliance.config import DEFAULT_PATH, Config, Mqtt
from appliance.errors import ApplianceError
from appliance.socket_client import Daemon

UNIT = "wattnap.service"
PROPERTIES = "LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus,MainPID"
HERE = Path("/")
BOOTED = "run/systemd/system"
"""There if systemd runs the machine: sd_booted(3)."""
LIMIT_S = 1.0
"""For each of them to answer."""
START_PRECISION_S = 2.0
"""Of a process's start: the kernel counts it from a boot time in whole seconds."""
MOSQUITTO = "etc/mosquitto"
WANTED = {"persistence": "true", "autosave_on_changes": "true", "max_queued_messages": ""}
"""Of Mosquitto's settings (docs/mqtt.md). Empty: it is to be set, to whatever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What was seen.

    systemd          it is what this machine was booted with
    unit             properties of the unit, by systemctl(1); None: nobody knows, or it is not ours
    status           what the daemon says (docs/socket.md); None: it was not asked, or says nothing
    changed          the configuration was written after the daemon had started
    broker           why it does not take us, in words; "" if it does, or there is to be none
    broker_code      the broker's own, if it refused
    broker_unasked   why it was not tried, in words
    broker_lacks     settings that the Mosquitto of this machine should have
    mosquitto        is installed here
    free_bytes       where the state is; None: not known
    synchronised     the clock; None: not known
    set_aside        damaged databases that still lie there
    """

    systemd: bool = True
    unit: Mapping[str, str] | None = None
    status: Mapping[str, Any] | None = None  # JSON
    changed: bool = False
    broker: str = ""
    broker_code: int = 0
    broker_unasked: str = ""
    broker_lacks: tuple[str, ...] = ()
    mosquitto: bool = False
    free_bytes: int | None = None
    synchronised: bool | None = None
    set_aside: tuple[str, ...] = ()


def look_around(config: Config, *, root: Path, may_connect: bool) -> Around:
    """`root`: a machine's files; of a copy, only they are looked at.

    `may_connect`: the daemon's socket is there, for this user.
    """
    unit = _unit(config, root)
    runs = unit is None or unit.get("ActiveState") == "active"
    broker, code, unasked = _greet(config.mqtt)
    return Around(
        systemd=(root / BOOTED).is_dir(),
        unit=unit,
        status=_status(config.socket_path) if may_connect and runs else None,
        changed=_changed(unit, root),
        broker=broker,
        broker_code=code,
        broker_unasked=unasked,
        broker_lacks=_broker_lacks(config.mqtt, root),
        mosquitto=(root / "usr/sbin/mosquitto").exists(),
        free_bytes=_free_bytes(Path(config.state_dir)),
        synchronised=SystemClock().synced() if root == HERE else None,
        set_aside=_set_aside(config.database),
    )


def _unit(config: Config, root: Path) -> Mapping[str, str] | None:
    """Only if it is the unit's daemon that listens where `config` says."""
    if root != HERE or config.socket_path != Config().socket_path:
        return None
    command = ["systemctl", "show", UNIT, f"--property={PROPERTIES}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split("=", 1) for line in said.stdout.splitlines())


def _status(path: Path) -> Mapping[str, Any] | None:  # JSON
    try:
        with Daemon(path, timeout_s=LIMIT_S) as daemon:
            told: dict[str, Any] = daemon.ask("status")["status"]
    except (ApplianceError, OSError):
        return None
    return told


def _changed(unit: Mapping[str, str] | None, root: Path) -> bool:
    try:
        started_s = psutil.Process(int((unit or {}).get("MainPID") or -1)).create_time()
        written_s = (root / DEFAULT_PATH.relative_to("/")).stat().st_mtime
        return written_s > started_s + START_PRECISION_S
    except (OSError, ValueError, psutil.Error):
        return False


def _greet(config: Mqtt) -> tuple[str, int, str]:
    """Why the broker does not take us, its code for that; or why it was not asked."""
    from appliance.doors.mqtt_client import ConnectionEnded, connected
    from appliance.doors.mqtt_terms import terms

    async def greet() -> None:
        how = terms(
            config,
            identifier=f"wattnap-doctor-{os.getpid()}",
            session_expiry_s=0,
            max_packet_bytes=1 << 16,
        )
        short = replace(how, connect_timeout_s=min(LIMIT_S, how.connect_timeout_s))
        async with connected(short, lambda *_: None) as connection:
            await connection.disconnect()

    if not config.enabled:
        return "", 0, ""
    try:
        asyncio.run(greet())
    except ConnectionEnded as error:
        if str(error).startswith("mqtt.password_file") and isinstance(error.__cause__, OSError):
            why = os.strerror(error.__cause__.errno or 0).lower()
            return "", 0, f"{config.password_file}: {why}"
        return str(error), error.code, ""
    return "", 0, ""


def _broker_lacks(config: Mqtt, root: Path) -> tuple[str, ...]:
    """Nothing of a broker that is another one than the system's."""
    folder = root / MOSQUITTO
    if not config.enabled or not is_here(config) or not folder.is_dir():
        return ()
    found: dict[str, str] = {}
    ports = set()
    for file in (folder / "mosquitto.conf", *sorted((folder / "conf.d").glob("*.conf"))):
        try:
            lines = re.findall(r"^\s*(\w+)\s+(\S+)", file.read_text(), re.MULTILINE)
        except OSError:
            return ()
        found |= dict(lines)
        ports |= {int(value) for name, value in lines if name in {"listener", "port"}}
    if config.port not in (ports or {1883}):
        return ()
    return tuple(
        f"{name} {value}".strip()
        for name, value in WANTED.items()
        if name not in found or (value and found[name] != value)
    )


def is_here(config: Mqtt) -> bool:
    """The broker is on this machine."""
    return config.host in {"localhost", "::1"} or config.host.startswith("127.")


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _set_aside(database: Path) -> tuple[str, ...]:
    try:
        found = sorted(database.parent.glob(f"{database.name}.corrupt-*"))
    except OSError:
        return ()
    return tuple(str(path) for path in found if not path.name.endswith(("-wal", "-shm")))
