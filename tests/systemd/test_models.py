"""Models on an installed appliance: switched, switched back, and what does not work."""

from __future__ import annotations

import os

from tests.systemd.conftest import MakeMachine
from tests.systemd.machine import Machine
from tests.systemd.product import CONFIG, ENGINE, PACKAGES

# The engine that pretends starts with each of them but this one.
BROKEN = """def main() -> None:
    if any(os.path.exists(f"{each}/broken") for each in sys.argv):
        sys.exit("ValueError: unknown quantization")
"""
SETTINGS = '[engine]\ndevice = "cpu"\n[power]\nbake = false\n'


def make_model(machine: Machine, name: str, *files: str) -> None:
    folder = f"/root/{name}"
    names = " ".join(f"{folder}/{each}" for each in ("config.json", "x.safetensors", *files))
    machine.box.run(f"mkdir {folder} && for file in {names}; do echo {name} >$file; done")


def served(machine: Machine) -> str:
    """The model that the engine was started with."""
    machine.box.run("wattnap wake")
    machine.awake()
    return machine.box.run("cat /opt/wattnap/models/current/config.json").strip()


def test_use_and_rollback(make_machine: MakeMachine) -> None:
    """Each switch ends with an engine that has answered, or with the one before."""
    machine = make_machine(files={CONFIG: SETTINGS})
    pretender = machine.box.root / f"{ENGINE}/{PACKAGES}/vllm/entrypoints/cli/main.py".lstrip("/")
    pretender.write_text(pretender.read_text().replace("def main() -> None:\n", BROKEN))
    for name, files in {"one": (), "two": (), "bad": ("broken",)}.items():
        make_model(machine, name, *files)
        machine.box.run(f"wattnap model add /root/{name}")
    machine.box.run("wattnap model use one")
    assert served(machine) == "one"

    machine.box.run("wattnap model use two")
    assert served(machine) == "two"

    machine.box.run("wattnap model rollback")
    assert served(machine) == "one"

    failed = machine.box.tries("wattnap model use bad", within_s=120)

    assert failed.returncode == os.EX_SOFTWARE
    assert "unknown quantization" in failed.stderr
    assert served(machine) == "one"

    machine.box.run("for file in /opt/wattnap/models/two/*/config.json; do echo x >$file; done")
    refused = machine.box.tries("wattnap model use two")

    assert refused.returncode == os.EX_DATAERR
    assert "is not what its digest says" in refused.stderr
    assert machine.box.tries("wattnap model use two", user="member").returncode == os.EX_DATAERR
    assert machine.box.tries("wattnap model use bad", user="member").returncode == os.EX_NOPERM
