"""The unit file, and what it makes of a machine: who may do what, and who is where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.systemd.conftest import MakeMachine
from tests.systemd.machine import UNIT, Machine, eventually
from tests.systemd.product import CONFIG, DAEMON, config

MOST_EXPOSED = {UNIT: 2.0, "wattnap-power@.service": 4.0}

# What the daemon and its engine cannot do without, and a sandbox may forbid.
NEEDS = """
import ctypes, mmap, os, shutil, socket, subprocess
from multiprocessing import shared_memory as shm
assert ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) != -1
os.sched_setaffinity(0, os.sched_getaffinity(0))
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
shm.SharedMemory(create=True, size=4096).unlink()
socket.if_nameindex()
open("/proc/stat").read()
built = os.environ["XDG_CACHE_HOME"] + "/built"
shutil.copy("/bin/true", built)
subprocess.run([built], check=True)
"""


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_exposure(shared_machine: Machine, unit: str) -> None:
    """systemd's own judgement of the hardening, from 0 to 10, gets no worse."""
    judge = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    said = shared_machine.box.enter(*judge, f"/etc/systemd/system/{unit}").stdout
    found = re.search(r"Overall exposure level .*: ([\d.]+)", said)

    assert found

    sys.stdout.write(f"{found[0]}\n")

    assert float(found[1]) <= MOST_EXPOSED[unit]


def test_verified(shared_machine: Machine) -> None:
    """systemd has nothing to say against the installed units. (It warns with status 0.)"""
    units = (UNIT, "wattnap.socket", "wattnap-power.socket", "wattnap-power@1.service")
    done = shared_machine.box.enter("systemd-analyze", "verify", "--man=no", *units)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prompt_and_what_it_cost(shared_machine: Machine) -> None:
    """Any user's prompt over MQTT is answered; the log has it, and the energy."""
    shared_machine.listen()
    shared_machine.publish({"tea-1": "two to three minutes"})

    assert shared_machine.answers(1)["tea-1"]["text"] == "two to three minutes"
    assert ("tea-1", "done") in shared_machine.outcomes()

    shared_machine.box.run("wattnap rest", user="member")  # what it was awake for is booked then

    def lines() -> set[str]:
        return {row["line"] for row in shared_machine.wattnap("energy --by line")["energy"]}

    eventually(lambda: {"idle", "waking"} <= lines())


def test_fields_in_the_journal(shared_machine: Machine) -> None:
    """A line can be found by its request, and tells engine and depth; the prompt is in none."""
    submit = "echo 'where is the spare key?' | wattnap submit - --wait --id log-1"
    shared_machine.box.run(submit, user="member")
    journal = ("journalctl", f"--unit={UNIT}", "--output=json", "--no-pager")
    found = shared_machine.box.enter(*journal, "WATTNAP_REQUEST=log-1").stdout.splitlines()

    assert len(found) == 1

    told = json.loads(found[0])

    assert told["MESSAGE"].startswith("log-1: done after ")
    assert told["WATTNAP_ENGINE"] == "main"
    assert told["WATTNAP_DEPTH"] == "awake"
    assert told["PRIORITY"] == "6"
    assert told["_TRANSPORT"] == "journal"
    assert "spare key" not in shared_machine.box.enter(*journal).stdout


def test_keys_that_root_keeps(make_machine: MakeMachine) -> None:
    """The HTTP door knows them, and nobody else on the machine can read them."""
    http = f"""
        [http]
        listen = "127.0.0.1:8071"
        api_keys_file = "/run/credentials/{UNIT}/http-keys"
    """
    keys = "/etc/wattnap/http-keys"
    machine = make_machine(files={CONFIG: config() + http, keys: f"kitchen: {'k' * 24}\n"})
    machine.box.run(f"chmod 600 {keys} && systemctl restart {UNIT}")
    get = """
import sys, urllib.request as r
r.urlopen(r.Request("http://127.0.0.1:8071/v1/models", headers={"Authorization": sys.argv[1]}))
"""

    def asked(key: str) -> subprocess.CompletedProcess[str]:
        return machine.box.tries(f"python3 - 'Bearer {key}'", user="nobody", input=get)

    assert asked("k" * 24).returncode == 0
    assert "401" in asked("none").stderr
    for user in ("nobody", "member"):
        assert machine.box.tries(f"cat {keys} /run/credentials/{UNIT}/*", user=user).stdout == ""


def test_doctor_as_installed(make_machine: MakeMachine) -> None:
    """Root and members are told how the service is; whoever looks at a stopped one lets it be."""
    machine = make_machine()

    def severities(user: str) -> dict[str, str]:
        said = machine.box.tries("wattnap doctor --json", user=user)
        assert said.returncode == 1, said  # Mosquitto has Debian's settings here
        return {each["what"]: each["severity"] for each in json.loads(said.stdout)["findings"]}

    for user in ("root", "member"):
        found = severities(user)
        running = ("service", "engine", "broker", "socket", "configuration", "vLLM")

        assert [found[what] for what in running] == ["fine"] * 6, user
        assert found["mosquitto"] == "warning"

    machine.systemctl("stop", UNIT)

    assert severities("root")["service"] == "warning"
    assert machine.show("ActiveState") == "inactive"


def test_who_may_use_the_socket(shared_machine: Machine) -> None:
    """Members of group wattnap may; others are told why not."""
    assert shared_machine.status()["engine"] == "main"

    refused = shared_machine.box.tries("wattnap status", user="nobody")

    assert refused.returncode == os.EX_UNAVAILABLE
    assert "not for this user" in refused.stderr

    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/wattnap/wattnap.sock')"
    refused = shared_machine.box.tries(f'python3 -c "{connect}"', user="nobody")

    assert "PermissionError: [Errno 13]" in refused.stderr


def test_who_may_read_the_log(shared_machine: Machine) -> None:
    """Prompts are in it: only the daemon's own user may."""
    for file in ("/var/lib/wattnap", "/var/lib/wattnap/wattnap.db", "/run/wattnap/main"):
        assert shared_machine.box.tries(f"cat {file}; ls {file}", user="member").stdout == ""


@pytest.mark.parametrize("unified", [False, True], ids=["this host's groups", "version 2 alone"])
def test_engine_in_its_own_group(make_machine: MakeMachine, unified: bool) -> None:
    """The engine is below the daemon's group, in one of its own; its guard is not."""
    machine = make_machine("--grandchild", unified=unified)
    machine.systemctl("is-active", UNIT)
    machine.box.run("wattnap wake", user="member")
    machine.awake()

    groups = {(each.group.partition(UNIT)[2], kind(each.command)) for each in machine.processes()}

    assert groups == {("", "daemon"), ("", "guard"), ("/engine/main", "engine")}
    assert len(machine.engine()) == 2


def kind(command: str) -> str:
    kinds = {"bin/wattnap run": "daemon", "guard.py": "guard"}
    return next((name for part, name in kinds.items() if part in command), "engine")


def test_sandbox_lets_it_work(make_machine: MakeMachine) -> None:
    """What the daemon and an engine need is allowed: run in the unit's own sandbox."""
    script = "/usr/local/lib/needs.py"
    first = f"ExecStartPre={DAEMON}/bin/python {script}"
    machine = make_machine(drop_in=first, files={script: NEEDS})

    assert machine.show("ActiveState") == "active", machine.journal()


@pytest.mark.parametrize("prompt", ["", "endless"], ids=["awake", "in the middle of an answer"])
def test_clean_stop(make_machine: MakeMachine, prompt: str) -> None:
    """`systemctl stop` takes less than 5 s and leaves nothing that runs, no file, no group."""
    machine = make_machine("--grandchild", "--shared-memory")
    if prompt:
        machine.publish({"long": prompt})
    else:
        machine.box.run("wattnap wake", user="member")
    machine.awake()
    began = time.monotonic()
    machine.systemctl("stop", UNIT, "wattnap.socket", "wattnap-power.socket")
    took_s = time.monotonic() - began

    assert took_s < 5
    assert machine.processes() == []
    assert machine.show("Result") == "success"
    assert machine.box.run("ls /dev/shm; ls -d /run/wattnap* /tmp/*wattnap* || :") == ""
    assert machine.box.run("find /sys/fs/cgroup -name 'wattnap*'") == ""


def test_wrong_configuration(make_machine: MakeMachine) -> None:
    """It fails once, says what to change, and is not started again and again."""
    machine = make_machine(files={"/etc/wattnap/wattnap.toml": "[engin]\n"})

    assert machine.show("Result") == "exit-code"
    assert machine.show("ExecMainStatus") == str(os.EX_CONFIG)
    assert machine.show("NRestarts") == "0"
    assert "no such setting: `engin`" in machine.journal()
