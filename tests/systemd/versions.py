"""Other versions of this clone, in a box: newer, or newer and broken."""

from __future__ import annotations

from pathlib import Path

from tests.systemd.machine import Machine
from tests.systemd.product import INSTALL, SOURCE

MIGRATION = "9999_later"
LATER = """\
ALTER TABLE inbox ADD COLUMN later TEXT NOT NULL DEFAULT 'yes';
CREATE TABLE later (number INTEGER PRIMARY KEY) STRICT;
"""
TAKEN = "CREATE TABLE inbox (number INTEGER PRIMARY KEY) STRICT;\n"
MUTE = "\n\ndef ready(status: str) -> None:\n    raise RuntimeError('not today')\n"
"""Appended to appliance/notify.py: all of it works, but for the doors of a daemon."""


def make_version(machine: Machine, version: str, *, migration: str = "", notify: str = "") -> None:
    """Have another version in the box's clone: its number, and what else is new in it."""
    source = machine.box.root / SOURCE.lstrip("/")
    project = source / "pyproject.toml"
    lines = project.read_text().splitlines()
    mine = [f'version = "{version}"' if line.startswith("version = ") else line for line in lines]
    project.write_text("\n".join(mine) + "\n")
    if migration:
        (source / f"appliance/storage/migrations/{MIGRATION}.sql").write_text(migration)
    if notify:
        with (source / "appliance/notify.py").open("a") as file:
            file.write(notify)


def install_sh(machine: Machine, command: str, status: int = 0) -> str:
    """Run install.sh in the box; it must end with `status`. What it said."""
    # What root calls in a terminal has no limits of a service's.
    done = machine.box.tries(f"{INSTALL} {command} 2>&1", within_s=240)

    assert done.returncode == status, done.stdout + done.stderr

    return done.stdout


def current(machine: Machine, kind: str = "daemon", mark: str = "current") -> str:
    """What is installed, without the digest in its name; "" if there is none."""
    link = machine.box.root / f"opt/wattnap/{kind}/{mark}"
    return Path(link).readlink().name.rpartition("-")[0] if link.is_symlink() else ""
