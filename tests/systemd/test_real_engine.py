"""The unit as shipped over vLLM itself, on a CPU: its sandbox must not be in the way."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.conftest import machine
from tests.systemd.machine import UNIT, Machine
from tests.systemd.product import CONFIG
from tests.tiny_model import write_model

# Places of their own: ProtectHome= hides those of this host, if they are in a home.
ENGINE, PYTHON, MODEL = "/opt/wattnap/engine/real", "/opt/python", "/opt/wattnap/models/tiny"

SETTINGS = f"""
[engine]
python = "{ENGINE}/bin/python"
model = "{MODEL}"
device = "cpu"
max_model_len = 2000
kv_cache_mib = 16
max_running = 4
enforce_eager = true
args = ["--dtype", "bfloat16"]
"""

FACTS = """
import json, sys, sysconfig
executable = f"bin/python{sysconfig.get_python_version()}"
print(json.dumps([sys.prefix, sys.base_prefix, executable]))
"""


@pytest.fixture
def real_machine(trees: tuple[Path, ...], engine_python: str, tmp_path: Path) -> Iterator[Machine]:
    said = subprocess.run([engine_python, "-c", FACTS], stdout=subprocess.PIPE, check=True)
    prefix, base_prefix, executable = json.loads(said.stdout)
    write_model(tmp_path / "tiny")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(f"{PYTHON}/{executable}")
    binds = {
        tmp_path / "bin": f"{ENGINE}/bin",
        Path(prefix) / "lib": f"{ENGINE}/lib",
        Path(base_prefix): PYTHON,
        tmp_path / "tiny": MODEL,
    }
    files = {
        CONFIG: SETTINGS,
        f"{ENGINE}/pyvenv.cfg": f"home = {PYTHON}/bin\n",
        # Its Python may have a library of its own, and look for it where it was built.
        "/etc/ld.so.conf.d/python.conf": f"{PYTHON}/lib\n",
    }
    with machine(trees, binds=binds, files=files) as made:
        made.box.run("ldconfig")
        yield made


@pytest.mark.engine
def test_vllm(real_machine: Machine) -> None:
    """It is awake, answers a prompt from the broker, is in its own group, and goes at once."""
    real_machine.listen()
    real_machine.publish({"tea-1": "How long does green tea steep?"})
    answer = real_machine.answers(1, within_s=300)["tea-1"]

    assert answer["usage"]["completion_tokens"] > 0
    assert len(real_machine.engine()) >= 3

    began = time.monotonic()
    real_machine.systemctl("stop", UNIT)

    assert time.monotonic() - began < 5
    assert real_machine.processes() == []
    assert real_machine.box.run("ls /dev/shm") == ""
