"""The product, installed as people have it, as trees on top of the base.

    dependencies   a virtual environment made with the box's own Python; kept
    product        the daemon's wheel, its unit, its user, a broker; new in each session

The engine is tests/fakes/vllm_server.py, installed as if it were vLLM, so that unit,
configuration and `wattnap run` are the shipped ones.
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
VENV = "/opt/wattnap/venv"
ENGINE = "/opt/wattnap/engine/pretended"
CONFIG = "/etc/wattnap/wattnap.toml"
PACKAGES = "lib/python3.11/site-packages"

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

# docs/mqtt.md recommends them.
BROKER = """
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
set_tcp_nodelay true
"""


def config(*args: str) -> str:
    """A configuration file; `args` are switches of tests/fakes/vllm_server.py."""
    return SETTINGS.format(args=", ".join(f'"{each}"' for each in args))


def dependencies() -> tuple[Path, ...]:
    """Trees with everything but the product."""
    bottom = base()
    recipe = f"{bottom.name} {requirements()} {platform.machine()}"
    tree = CACHE / f"dependencies-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with made_once(tree) as fresh, tempfile.TemporaryDirectory() as wheels:
        if fresh is not None:
            download(Path(wheels))
            with Box((bottom,), binds={Path(wheels): "/mnt"}) as box:
                box.run(
                    f"python3 -m venv --without-pip {ENGINE}; python3 -m venv {VENV}"
                    f" && {VENV}/bin/pip install --quiet --no-index /mnt/*.whl",
                    within_s=300,
                )
                box.off()
                box.upper.rename(fresh)
    return tree, bottom


@contextmanager
def product() -> Iterator[tuple[Path, ...]]:
    """Trees with the product of this clone, uppermost first."""
    below = dependencies()
    with tempfile.TemporaryDirectory() as wheel:
        build(Path(wheel))
        with Box(below, binds={Path(wheel): "/mnt", CLONE / "systemd": "/media"}) as box:
            install(box)
            box.off()
            yield box.upper, *below


def install(box: Box) -> None:
    pretender = (CLONE / "tests/fakes/vllm_server.py").read_text()
    packages = f"{ENGINE}/{PACKAGES}"
    metadata = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    write(box.root, f"{packages}/vllm/entrypoints/cli/main.py", pretender)
    write(box.root, f"{packages}/vllm-0.32.0.dist-info/METADATA", metadata)
    write(box.root, f"{packages}/daemon.pth", f"{VENV}/{PACKAGES}\n")
    write(box.root, CONFIG, config())
    write(box.root, "/etc/mosquitto/conf.d/wattnap.conf", BROKER)
    box.run(
        f"""
        set -e
        ln -s pretended {Path(ENGINE).parent}/current
        {VENV}/bin/pip install --quiet --no-index --no-deps /mnt/*.whl
        ln -s {VENV}/bin/wattnap /usr/local/bin/wattnap
        cp /media/wattnap.service /etc/systemd/system/
        cp /media/wattnap.sysusers.conf /usr/lib/sysusers.d/wattnap.conf
        systemd-sysusers
        useradd --groups wattnap member
        systemctl enable --quiet wattnap.service
        """
    )


def write(root: Path, path: str, text: str) -> None:
    """A file that everybody in a box may read. `root`: a box's root or, while it is off, upper."""
    at = root / path.lstrip("/")
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(text)


def requirements() -> list[str]:
    needed: list[str] = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    return needed


def download(wheels: Path) -> None:
    """Get wheels for the box's Python, which is Debian's and not ours."""
    target = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    glibc, machine = ("2014", "_2_17", "_2_28"), platform.machine()
    target += [f"--platform=manylinux{version}_{machine}" for version in glibc]
    pip("download", "--dest", str(wheels), *target, *requirements())


def build(wheels: Path) -> None:
    """Build our own wheel, from a copy, because building leaves files where it builds."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            shutil.copy(CLONE / name, copy)
        for name in ("appliance", "drivers", "policies"):
            shutil.copytree(CLONE / name, Path(copy) / name)
        pip("wheel", "--no-deps", "--wheel-dir", str(wheels), copy)


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
