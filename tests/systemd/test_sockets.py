"""The daemon's socket and the helper's, as systemd opens them."""

from __future__ import annotations

import json

from tests.systemd.conftest import MakeMachine
from tests.systemd.machine import UNIT
from tests.systemd.product import DAEMON

# Asks wattnap-power, and says what came back.
ASK = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as helper:
    helper.connect("/run/wattnap-power.sock")
    helper.send(sys.argv[1].encode())
    print(helper.recv(65536).decode(), flush=True)
"""
# In the daemon's place: the unit's main process asks, then goes on being there.
MAIN = """
import subprocess, sys, time
sys.argv = ["ask", "alarm 0"]
exec(open("/ask.py").read())
sys.argv = ["ask", "suspend"]
exec(open("/ask.py").read())
subprocess.run([sys.executable, "/ask.py", "alarm 0"], check=True)
time.sleep(600)
"""


def test_who_may_ask_the_helper(make_machine: MakeMachine) -> None:
    """The unit's main process: it is let through to the clock, which boxes have none of.

    Neither its children, nor its user elsewhere; and to suspend is not allowed by itself.
    """
    instead = f"Type=exec\nExecStart=\nExecStart={DAEMON}/bin/python -u /main.py"
    machine = make_machine(drop_in=instead, files={"/ask.py": ASK, "/main.py": MAIN})
    machine.box.run(
        "while ! journalctl -u wattnap -o cat | grep -q 'not the main'; do sleep 0.1; done"
    )
    told = [json.loads(line) for line in machine.journal().splitlines() if line[0] == "{"]

    assert told[0]["status"] == 1
    assert "wakealarm" in told[0]["said"]
    assert [each["refused"] for each in told[1:]] == [
        "suspending is not allowed on this machine",
        f"the caller is not the main process of {UNIT}",
    ]

    elsewhere = machine.box.run("python3 /ask.py 'alarm 0'", user="wattnap")

    assert "not the main process" in elsewhere
    others = machine.box.tries("python3 /ask.py 'alarm 0'", user="member")
    assert "PermissionError" in others.stderr


def test_who_connects_starts_it(make_machine: MakeMachine) -> None:
    """Also after a stop, or while it is on its way up: the connection waits for it."""
    machine = make_machine()
    machine.systemctl("stop", UNIT)

    assert machine.status()["engine"] == "main"
    assert machine.show("ActiveState") == "active"

    machine.systemctl("--no-block", "restart", UNIT)

    assert machine.status()["engine"] == "main"
    assert machine.box.run("stat -c %a:%U:%G /run/wattnap/wattnap.sock") == "660:wattnap:wattnap\n"


def test_a_reboot_with_prompts(make_machine: MakeMachine) -> None:
    """What was submitted over the socket before is answered after; the engine finds its place."""
    machine = make_machine()
    machine.box.run("echo 'number 1' | wattnap submit --id one -", user="member")
    machine.box.reboot()
    answer = machine.box.run("wattnap answer one --wait", user="member")

    assert answer == "number 1\n"
