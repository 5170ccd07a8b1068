"""The product, installed as people have it, as trees on top of the base.

    dependencies   wheels for the box's own Python, and an engine that pretends; kept
    product        what `install.sh install` makes of this clone; new in each session

The engine is tests/fakes/vllm_server.py, installed as if it were vLLM, so that units,
configuration and `wattnap run` are the shipped ones. Boxes have no network: pip finds its
wheels in a folder.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.systemd.base_tree import CACHE, base, made_once
from tests.systemd.box import Box

CLONE = Path(__file__).parents[2]
DAEMON = "/opt/wattnap/daemon/current"
ENGINE = "/opt/pretended"
CONFIG = "/etc/wattnap/wattnap.toml"
PACKAGES = "lib/python3.11/site-packages"
WHEELS = "/opt/wheelhouse"
SOURCE = "/opt/source"
INSTALL = f"PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS} {SOURCE}/install.sh"

# All that an installation needs of a clone.
PARTS = ("install.sh", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "engines.lock")
FOLDERS = ("appliance", "drivers", "policies", "systemd")

SETTINGS = """
[engine]
model = "pretended"
device = "cpu"
max_running = 1
args = [{args}]

[power]
idle_timeout_s = 3600
bake = false
"""


def config(*args: str) -> str:
    """A configuration file; `args` are switches of tests/fakes/vllm_server.py."""
    return SETTINGS.format(args=", ".join(f'"{each}"' for each in args))


def dependencies() -> tuple[Path, ...]:
    """Trees with everything but the product."""
    bottom = base()
    recipe = f"{bottom.name} {requirements()} {platform.machine()} {WHEELS} {ENGINE}"
    tree = CACHE / f"dependencies-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with made_once(tree) as fresh, tempfile.TemporaryDirectory() as wheels:
        if fresh is not None:
            download(Path(wheels))
            with Box((bottom,), binds={Path(wheels): "/mnt"}) as box:
                box.run(
                    f"""
                    set -e
                    mkdir {WHEELS}
                    cp /mnt/*.whl {WHEELS}
                    python3 -m venv {ENGINE}
                    {ENGINE}/bin/pip install --quiet --no-index {WHEELS}/*.whl
                    """,
                    within_s=300,
                )
                box.off()
                box.upper.rename(fresh)
    return tree, bottom


@contextmanager
def product() -> Iterator[tuple[Path, ...]]:
    """Trees with the product of this clone, uppermost first."""
    with Box(prepared := dependencies()) as box:
        lay_source(box.root)
        pretend(box.root)
        write(box.root, CONFIG, config())
        box.run(f"{INSTALL} install --engine-python {ENGINE}/bin/python", within_s=300)
        box.run("useradd --groups wattnap member")
        box.off()
        yield box.upper, *prepared


def lay_source(root: Path) -> None:
    """This clone, where a box's install.sh finds it."""
    to = root / SOURCE.lstrip("/")
    to.mkdir(parents=True)
    for name in PARTS:
        shutil.copy(CLONE / name, to)
    for name in FOLDERS:
        shutil.copytree(CLONE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))


def pretend(root: Path) -> None:
    """Make of the engine's environment one that has vLLM, as far as anybody can see."""
    packages = f"{ENGINE}/{PACKAGES}"
    metadata = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    pretender = (CLONE / "tests/fakes/vllm_server.py").read_text()
    write(root, f"{packages}/vllm/__init__.py", "")
    write(root, f"{packages}/vllm/entrypoints/cli/main.py", pretender)
    write(root, f"{packages}/vllm-0.32.0.dist-info/METADATA", metadata)
    # It imports the daemon's own fake: always that of the version which runs.
    write(root, f"{packages}/daemon.pth", f"{DAEMON}/{PACKAGES}\n")


def write(root: Path, path: str, text: str) -> None:
    """A file that everybody in a box may read. `root`: a box's root or, while it is off, upper."""
    at = root / path.lstrip("/")
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(text)


def requirements() -> list[str]:
    """What the daemon needs, and what builds it."""
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())
    needed: list[str] = project["project"]["dependencies"] + project["build-system"]["requires"]
    return needed


def download(wheels: Path) -> None:
    """Get wheels for the box's Python, which is Debian's and not ours."""
    target = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    glibc, machine = ("2014", "_2_17", "_2_28"), platform.machine()
    target += [f"--platform=manylinux{version}_{machine}" for version in glibc]
    pip("download", "--dest", str(wheels), *target, *requirements())


def pip(*arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *quiet],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"pip {arguments[0]} failed:\n{done.stdout}{done.stderr}"
