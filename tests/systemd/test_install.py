"""install.sh on a booted machine: what it makes, changes, takes back and removes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.systemd.box import Box
from tests.systemd.conftest import MakeMachine
from tests.systemd.machine import UNIT, Machine, eventually
from tests.systemd.product import DAEMON, ENGINE, dependencies, lay_source, pretend
from tests.systemd.versions import (
    LATER,
    MIGRATION,
    MUTE,
    TAKEN,
    current,
    install_sh,
    make_version,
)

GATE = "/var/lib/wattnap/gate"
DATABASE = "/var/lib/wattnap/wattnap.db"
LONGEST_DOWN_S = 10

# Asks for the status again and again, and says how long the longest answer took; what is
# refused or cut is asked anew, in the same time.
PROBE = """
import json, os, socket, time
longest = 0.0
while not os.path.exists("/run/enough"):
    began = time.monotonic()
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("/run/wattnap/wattnap.sock")
                client.sendall(b'{"op":"status"}\\n')
                if client.recv(65536):
                    break
        except OSError:
            pass
        time.sleep(0.02)
    longest = max(longest, time.monotonic() - began)
    with open("/run/longest", "w") as file:
        file.write(str(longest))
    time.sleep(0.05)
"""
# Publishes a prompt every 0.2 s, with the number in it.
SENDER = """
number=0
while [ ! -e /run/enough ]; do
    mosquitto_pub -V 5 -q 1 -t wattnap/home/request/main/n-$number -m "number $number" &&
        echo $number >/run/sent
    number=$((number + 1))
    sleep 0.2
done
"""
# Everything that is on the disk, and who there is; not what a running system writes by itself.
INVENTORY = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp \
    -o -path /var/log -o -path /opt/source -o -path /opt/pretended -o -path /var/lib/systemd \
    -o -path /var/lib/mosquitto -o -path /root \) -prune -o -printf '%p %M %u:%g\n' | sort
cat /etc/passwd /etc/group
systemctl list-unit-files --no-legend --no-pager 'wattnap*' 'mosquitto*'
"""


@pytest.fixture
def busy_machine(make_machine: MakeMachine) -> Iterator[Machine]:
    """One that is asked all the time, over MQTT and the socket."""
    machine = make_machine(files={"/run.py": PROBE, "/run.sh": SENDER})
    machine.listen()
    for command in ("python3 /run.py", "sh /run.sh"):
        started = machine.box.enter("systemd-run", "--quiet", *command.split())
        assert started.returncode == 0, started.stderr
    eventually((machine.box.root / "run/sent").exists)
    yield machine
    (machine.box.root / "run/enough").touch()


def end_of_sending(machine: Machine) -> list[str]:
    """Stop the sender. The ids that it has sent."""
    (machine.box.root / "run/enough").touch()
    eventually(lambda: "sh /run.sh" not in machine.box.enter("ps", "-eo", "args").stdout)
    count = int((machine.box.root / "run/sent").read_text()) + 1
    return [f"n-{number}" for number in range(count)]


def all_answered(machine: Machine, ids: list[str]) -> None:
    """Each with its own words, and each ended once."""
    answers = machine.answers(len(ids))

    assert sorted(answers) == sorted(ids)
    assert all(answer["text"] == id.replace("n-", "number ") for id, answer in answers.items())
    assert [each for each in machine.outcomes() if each[1] != "done"] == []
    assert len(machine.outcomes()) == len(ids)


def test_upgrade_and_rollback(busy_machine: Machine) -> None:
    """No prompt is lost in either, nobody waits for long, and the log is readable by both."""
    make_version(busy_machine, "7.0", migration=LATER)
    install_sh(busy_machine, "upgrade")

    assert current(busy_machine) == "7.0"
    assert busy_machine.wattnap("status")["state"]
    assert MIGRATION in migrations(busy_machine)
    assert len(backups(busy_machine)) == 1

    install_sh(busy_machine, "rollback")

    assert current(busy_machine) == "0.1.0"
    assert current(busy_machine, mark="previous") == "7.0"
    assert MIGRATION not in migrations(busy_machine)

    all_answered(busy_machine, end_of_sending(busy_machine))
    longest_s = float((busy_machine.box.root / "run/longest").read_text())
    print(f"longest without an answer from the socket: {longest_s:.1f} s")  # noqa: T201

    assert longest_s < LONGEST_DOWN_S

    install_sh(busy_machine, "rollback")

    assert current(busy_machine) == "7.0"


def migrations(machine: Machine) -> list[str]:
    """Names of what was done to the database's schema."""
    script = (
        f"import json, sqlite3; rows = sqlite3.connect('{DATABASE}').execute("
        "'SELECT name FROM _sqlite_migrations').fetchall(); print(json.dumps(rows))"
    )
    return [name for (name,) in json.loads(machine.box.run(f'python3 -c "{script}"'))]


def backups(machine: Machine) -> list[str]:
    return machine.box.run("ls /var/lib/wattnap/backups").split()


def test_upgrade_that_fails_in_its_trial(make_machine: MakeMachine) -> None:
    """It says why; the old version has run all the time, and nothing of the new one is left."""
    machine = make_machine()
    daemon = machine.daemon
    make_version(machine, "7.0", migration=TAKEN)
    said = install_sh(machine, "upgrade", os.EX_SOFTWARE)

    assert "table inbox already exists" in said
    assert "Nothing that runs was changed." in said
    assert (machine.daemon, machine.show("NRestarts")) == (daemon, "0")
    assert current(machine) == "0.1.0"
    assert not (machine.box.root / "var/lib/wattnap/trial").exists()
    assert machine.box.run("systemctl list-units --all --no-legend 'wattnap-trial*'") == ""


def test_upgrade_that_does_not_start(make_machine: MakeMachine) -> None:
    """It has changed the database already: the old version is back, and what waited is answered."""
    machine = make_machine("--gate", GATE)
    machine.listen()
    machine.publish({"n-0": "number 0", "n-1": "number 1"})
    eventually(lambda: machine.status()["waiting"] == 1)
    make_version(machine, "7.0", migration=LATER, notify=MUTE)
    # Its trial has an engine of its own, which is asked only what it was asked before.
    said = install_sh(machine, "upgrade", os.EX_SOFTWARE)

    assert "RuntimeError: not today" in said
    assert "runs again, and has all that was accepted" in said
    assert current(machine) == "0.1.0"
    assert MIGRATION not in migrations(machine)

    machine.box.run(f"touch {GATE}")
    all_answered(machine, ["n-0", "n-1"])


def test_install_twice(make_machine: MakeMachine) -> None:
    """The second time changes nothing; what is amiss is mended, without a new version."""
    machine = make_machine()
    daemon = machine.daemon
    said = install_sh(machine, "install")

    assert "is installed, and runs" in said
    assert machine.daemon == daemon

    unit = machine.box.root / f"etc/systemd/system/{UNIT}"
    shipped = unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/false\n")
    install_sh(machine, "install")

    assert unit.read_text() == shipped
    assert machine.daemon != daemon
    version = machine.box.run(f"basename $(readlink {DAEMON})").strip()

    assert f"daemon   current   {version}" in install_sh(machine, "status")


def test_a_broker_elsewhere(make_machine: MakeMachine) -> None:
    """Its password is root's alone and reaches the daemon; a file with changes is left alone."""
    machine = make_machine(files={"/var/empty": ""})
    refused = install_sh(machine, "install --broker mqtt://me:secret@192.0.2.1", os.EX_CONFIG)

    assert "has changes of yours" in refused

    machine.box.run("rm /etc/wattnap/wattnap.toml")
    engine = f"--engine-python {ENGINE}/bin/python"
    install_sh(machine, f"install {engine} --broker mqtt://me:secret@192.0.2.1")
    credential = f"/run/credentials/{UNIT}/mqtt-password"

    assert f'password_file = "{credential}"' in machine.box.run("cat /etc/wattnap/wattnap.toml")
    assert machine.box.run("stat -c %a:%U /etc/wattnap/mqtt-password") == "600:root\n"
    assert machine.box.enter("cat", credential).stdout == "secret\n"
    assert "\nIPAddressAllow=any\n" in machine.systemctl("cat", UNIT)


def test_an_engine_in_a_home(make_machine: MakeMachine) -> None:
    """The service would not see it: refused, while root still can; what runs, runs on."""
    python = "/home/ann/vllm/bin/python"
    machine = make_machine(files={python: f'#!/bin/sh\nexec {ENGINE}/bin/python "$@"\n'})
    machine.box.run(f"chmod +x {python}")
    refused = install_sh(machine, f"upgrade --engine-python {python}", os.EX_UNAVAILABLE)

    assert "is in a home" in refused
    assert machine.box.run("wattnap ask hello") == "hello\n"


def test_uninstall() -> None:
    """Of an installation from nothing, nothing is left; without --purge, what is the user's."""
    with Box(dependencies()) as box:
        lay_source(box.root)
        pretend(box.root)
        machine = Machine(box)
        before = box.run(INVENTORY)
        install_sh(machine, f"install --engine-python {ENGINE}/bin/python")

        assert box.run("wattnap ask hello") == "hello\n"

        install_sh(machine, "uninstall")

        assert box.run("ls /etc/wattnap /var/lib/wattnap").count("wattnap.") == 2

        install_sh(machine, "uninstall --purge")

        assert box.run(INVENTORY).splitlines() == before.splitlines()
