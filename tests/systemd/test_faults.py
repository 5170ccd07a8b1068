"""Kills, reboots and power cuts of an installed appliance: each prompt is answered once."""

from __future__ import annotations

import pytest

from tests.systemd.conftest import MakeMachine
from tests.systemd.machine import UNIT, Machine, eventually

PROMPTS = {f"p-{number}": f"this is number {number}" for number in range(5)}
LOG, GATE = "/var/lib/wattnap/engine.log", "/var/lib/wattnap/gate"
HELD = ("--gate", GATE, "--log", LOG)


def working(machine: Machine) -> None:
    """Prompts sent; one runs and is held, others wait."""
    machine.listen()
    machine.publish(PROMPTS)
    eventually(lambda: machine.status()["running"] == 1)
    eventually(lambda: machine.status()["waiting"] == len(PROMPTS) - 1)


def let_go(machine: Machine) -> None:
    """From now on the engine answers."""
    machine.box.run(f"touch {GATE}")


def all_answered(machine: Machine) -> None:
    """Each once: one outcome in the log, and no two answers that differ; one ran twice."""
    let_go(machine)
    answers = machine.answers(len(PROMPTS))

    assert {id: answer.get("text") for id, answer in answers.items()} == PROMPTS
    assert machine.outcomes() == sorted((id, "done") for id in PROMPTS)
    assert len(machine.box.run(f"cat {LOG}").splitlines()) == len(PROMPTS) + 1


def test_daemon_killed(make_machine: MakeMachine) -> None:
    """It is back after seconds, without its old engine, and goes on."""
    machine = make_machine(*HELD, "--grandchild", "--shared-memory")
    working(machine)
    before = machine.processes()
    machine.kill(machine.daemon)
    all_answered(machine)

    assert machine.show("NRestarts") == "1"
    assert machine.left_of(before) == []
    assert sum(" serve " in each.command for each in machine.engine()) == 1
    assert machine.box.run("ls /dev/shm").count("psm_") == 1


def test_engine_killed(make_machine: MakeMachine) -> None:
    """The daemon stays, and starts another engine."""
    machine = make_machine(*HELD, "--grandchild")
    working(machine)
    daemon, engine = machine.daemon, machine.engine()
    machine.kill(engine[0].pid)
    all_answered(machine)

    assert (machine.daemon, machine.show("NRestarts")) == (daemon, "0")
    assert machine.left_of(engine) == []


def test_out_of_memory(make_machine: MakeMachine) -> None:
    """The kernel ends the engine that takes too much; daemon and other prompts live on."""
    machine = make_machine(*HELD, drop_in="MemoryMax=300M\nMemorySwapMax=0")
    if machine.show("MemoryCurrent") == "[not set]":
        pytest.skip("this host gives boxes no memory controller")
    working(machine)
    daemon = machine.daemon
    machine.publish({"too-much": "greedy"})
    let_go(machine)
    answers = machine.answers(len(PROMPTS) + 1)

    assert answers["too-much"]["error"]["code"] == "gave_up"
    assert {id for id, answer in answers.items() if "text" in answer} == set(PROMPTS)
    assert (machine.daemon, machine.show("NRestarts")) == (daemon, "0")


def test_daemon_hangs(make_machine: MakeMachine) -> None:
    """The watchdog ends it, with the place where it hung, and its engine; the next one goes on."""
    machine = make_machine(*HELD, drop_in="WatchdogSec=2")
    working(machine)
    before = machine.processes()
    machine.kill(machine.daemon, "STOP")
    all_answered(machine)

    assert machine.show("NRestarts") == "1"
    assert machine.left_of(before) == []
    assert "Watchdog timeout" in machine.journal()
    assert "Fatal Python error: Aborted" in machine.journal()


def test_reboot(make_machine: MakeMachine) -> None:
    """What waited, or ran, is answered after the boot."""
    machine = make_machine(*HELD)
    working(machine)
    machine.box.reboot()
    all_answered(machine)


def test_power_cut(make_machine: MakeMachine) -> None:
    """Likewise if nobody was told."""
    machine = make_machine(*HELD)
    working(machine)
    machine.box.cut()
    machine.box.boot()
    all_answered(machine)
    assert machine.systemctl("is-active", UNIT).strip() == "active"
