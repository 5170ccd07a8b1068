"""Looks at a machine and its installation, and says what is amiss and how to mend it.

Wakes nothing: it reads small files, and opens NVML only where a persistence daemon
keeps the driver loaded anyway, or if it is told to look deep. Starts the engine's
Python, to ask for vLLM's version, and no engine.
"""

from __future__ import annotations

import asyncio
import grp
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.building import build_engine
from appliance.config import Config
from appliance.defaults import settings
from appliance.errors import ConfigError, StorageFailed, Unreachable
from appliance.model_facts import model_facts
from appliance.power.prices import latest_made_of
from appliance.setup import http_look
from appliance.setup.checks import http, installation, machine, meters, running
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Report
from appliance.setup.checks.installation import SERVICE
from appliance.setup.checks.rungs import rungs
from appliance.setup.engine_lock import LOCK, read_lock
from appliance.setup.meter_look import look_at_meters
from appliance.setup.models import served
from appliance.setup.surroundings import look_around
from appliance.storage.reading import reading
from drivers.capture import captured, write
from drivers.disk import fsync_s
from drivers.errors import DriverError, NotSupported
from drivers.nvml_facts import look
from drivers.permissions import Account, find_account, forbidden, may_read, ours
from drivers.probe import Machine, driver_installed, probe
from drivers.protocols import Rest
from drivers.tree import Tree
from drivers.vllm_rest import why_not
from drivers.vllm_versions import Install, Versions, row_for

ROOT = Path("/")
FSYNCS, FSYNC_LIMIT_S = 50, 0.5
PYTHON_LIMIT_S = 2.0
"""For the engine's Python to name its vLLM; 0.1 s where its files are in memory."""


def examine(
    config: Config,
    *,
    failure: ConfigError | None = None,
    deep: bool = False,
    root: Path = ROOT,
    nvml: Any = None,  # pynvml, which has no types, or what stands in for it
    account: Account | None = None,
) -> Report:
    """Look at everything, and judge. Takes less than 3 s; not to be called in an event loop.

    failure  why `config` is not what was asked for, but the defaults
    deep     open NVML also where that may wake the GPU
    root     of the machine's files, which may be a copy
    account  who is to use the devices; None: the service's user, if root asks; else who asks
    """
    facts = gather(config, failure=failure, deep=deep, root=root, nvml=nvml, account=account)
    return judge(facts)


def judge(facts: Facts) -> Report:
    """Pure."""
    found = (
        *machine.findings(facts),
        *meters.findings(facts),
        *installation.findings(facts),
        *running.findings(facts),
        http.finding(facts),
    )
    return Report(machine.subject(facts), rungs(facts), found)


def gather(
    config: Config,
    *,
    failure: ConfigError | None = None,
    deep: bool = False,
    root: Path = ROOT,
    nvml: Any = None,  # as above
    account: Account | None = None,
) -> Facts:
    """Look at everything; see `examine`."""
    found = probe(root)
    account = account or _user()
    model = served(config.engine.model)
    files = model_facts(Path(model))
    install = _vllm(Path(config.engine.python))
    nvml_unasked = _nvml_unasked(found, deep=deep)
    socket, socket_group = _socket(config.socket_path)
    return Facts(
        config=config,
        config_failure=str(failure or ""),
        config_forbidden=isinstance(failure and failure.__cause__, PermissionError),
        machine=found,
        driver_installed=driver_installed(root),
        distribution=_distribution(Tree(root)),
        settings=settings(config.engine, found, files),
        lacks=_lacks(config, install),
        install=install,
        other_python=_other_python(Path(sys.prefix)),
        needed_driver=_needed_driver(install),
        account=account,
        forbidden=forbidden(found, account, root),
        socket=socket,
        socket_group=socket_group,
        no_such_group=not _is_group(config.socket.group),
        meters=look_at_meters(
            config,
            found,
            account=account,
            root=root,
            nvml=nvml,
            nvml_unasked=nvml_unasked if found.meter == "nvml" else "",
        ),
        nvml=nvml_unasked or look(found.gpus[0].uuid, nvml),
        model=model,
        model_lacks=_model_lacks(Path(model), account),
        weights_bytes=files.weights_bytes,
        calibrated=_calibrated(config),
        fsync_s=_fsyncs(Path(config.state_dir)),
        around=look_around(config, root=root, may_connect=socket == "ours"),
        http=http_look.look(config.http),
    )


def _user() -> Account:
    """Who will use the devices: root asks for the service, anybody else for himself."""
    service = find_account(SERVICE) if os.geteuid() == 0 else None
    return service or ours()


def _nvml_unasked(found: Machine, *, deep: bool) -> str:
    """Why NVML is not opened; "": it is."""
    if not found.gpus or found.jetson is not None:
        return "there is no NVML to ask"
    if not deep:
        if any(gpu.runtime in {"suspended", "suspending"} for gpu in found.gpus):
            return "it would wake the GPU; `wattnap doctor --deep` does"
        if not found.persistenced:
            return "it may start the GPU's driver; `wattnap doctor --deep` does"
    return ""


def _vllm(python: Path) -> Install | str:
    """Its vLLM, or why there is none."""
    if not os.access(python, os.X_OK):
        return f"{python} is no program"
    try:
        return asyncio.run(_asked(python.absolute()))
    except DriverError as error:
        return str(error)
    except TimeoutError:
        return f"{python} did not say within {PYTHON_LIMIT_S:.0f} s which vLLM it has; try again"


async def _asked(python: Path) -> Install:
    async with asyncio.timeout(PYTHON_LIMIT_S):
        return await Versions().find(python)


def _other_python(venv: Path) -> str:
    """Where `install.sh` puts an engine, if `venv` is where it put us: one or two folders up."""
    found = (path for home in venv.parents[:2] for path in sorted(home.glob("engine/*/bin/python")))
    return next((str(path) for path in found), "")


def _needed_driver(install: Install | str) -> str:
    """By engines.lock, if it knows this very vLLM and is here."""
    if isinstance(install, str) or not LOCK.exists():
        return ""
    wanted = (f"{install.distribution}=={install.version}", platform.machine(), "nvidia")
    drivers = (
        engine.minimum_driver
        for engine in read_lock()
        if (engine.engine, engine.architecture, engine.accelerator) == wanted
    )
    return next(drivers, "")


def _lacks(config: Config, install: Install | str) -> dict[Rest, str] | None:
    """What the engine says of itself, and of its vLLM, before its first start."""
    try:
        lacks = dict(build_engine(config).lacks)
        if config.engine.kind != "vllm":
            return lacks
        if isinstance(install, str):
            return None
        why = why_not(config.engine.sleep_level, row_for(install), install)
    except (ConfigError, NotSupported):  # the check of vLLM says why
        return None
    return {**lacks, "sleep": why} if why else lacks


def _distribution(tree: Tree) -> str:
    found = re.search(r'^ID="?(\w+)', tree.text("etc/os-release"), re.MULTILINE)
    return found[1] if found else ""


def _model_lacks(folder: Path, account: Account) -> str:
    try:
        if not may_read(folder, account):
            # Where there is a service its user is to read it, and root can tell.
            ask_root = os.geteuid() != 0 and find_account(SERVICE) is not None
            return "" if ask_root else f"user {account.name} may not read it"
        names = {path.name for path in folder.iterdir()}
    except PermissionError:  # nor may we look: root would know
        return ""
    except OSError as error:
        return os.strerror(error.errno or 0)
    if "config.json" not in names:
        return "it has no config.json, so it is no model"
    if not any(name.endswith(".safetensors") for name in names):
        return "it has no weights in safetensors; other formats can hold programs"
    return ""


def _is_group(name: str) -> bool:
    try:
        return not name or bool(grp.getgrnam(name))
    except KeyError:
        return False


def _socket(path: Path) -> tuple[str, str]:
    try:
        group = path.group()
    except KeyError:  # a number without a name
        group = ""
    except PermissionError:
        return "forbidden", ""
    except OSError:
        return "absent", ""
    return ("ours" if os.access(path, os.R_OK | os.W_OK) else "forbidden"), group


def _calibrated(config: Config) -> Mapping[str, str] | str | None:
    try:
        with reading(config.database) as database:
            return latest_made_of(database, config.engine.alias)
    except (Unreachable, StorageFailed) as error:
        return str(error)


def _fsyncs(folder: Path) -> tuple[float, ...] | str:
    try:
        return tuple(fsync_s(folder, count=FSYNCS, limit_s=FSYNC_LIMIT_S))
    except PermissionError:
        return "it is not for this user"
    except FileNotFoundError:
        return "there is no such folder yet"
    except OSError as error:
        return os.strerror(error.errno or 0)


def capture(file: Path, root: Path = ROOT) -> list[str]:
    """Pack what the drivers read, so that it can be a test elsewhere. Returns the names.

    Raises OSError, also if there is such a file already.
    """
    found = captured(root)
    write(file, found)
    return list(found)
