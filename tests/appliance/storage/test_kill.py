"""SIGKILL of the daemon with many prompts accepted and one running."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from bench.rig import Rig
from tests.appliance.storage.clients import (
    BASE,
    FILTERS,
    attempts,
    held,
    let_go,
    runs,
    submit,
    unfinished,
    until,
)
from tests.appliance.storage.conftest import MakeRig
from tests.senders import sender

WAITING = [f"w{number}" for number in range(20)]
ALL = ["running", *WAITING]


def stored(made: Rig) -> dict[str, bytes]:
    return {row["id"]: row["answer"] for row in made.query("SELECT id, answer FROM inbox")}


@pytest.mark.parametrize("victim", ["daemon", "daemon and guard"])
async def test_twenty_wait_and_one_runs(make_rig: MakeRig, victim: str) -> None:
    """Each has one outcome in the end, and its answer is delivered as it was committed."""
    made = make_rig(max_running=1)
    held(made)
    made.start_daemon()
    async with sender(made.broker.port, filters=FILTERS) as someone:
        await someone.hears(lambda m: m.payload == b"online")
        await someone.publish(f"{BASE}/request/main/running", "running")
        await until(lambda: runs(made)["running"])
        for id in WAITING:
            await someone.publish(f"{BASE}/request/main/{id}", id)
        await someone.hears_all(len(ALL), f"{BASE}/status/")
        assert made.daemon is not None
        guards, (orphan,) = made.engine_processes()
        if victim == "daemon and guard":
            made.daemon.send_signal(signal.SIGSTOP)  # it must not notice
            guards[0].kill()
        made.stop_daemon(signal.SIGKILL)
        if victim == "daemon":
            await until(lambda: not made.ours())

        assert len(unfinished(made)) == len(ALL)

        let_go(made)
        made.start_daemon()
        await until(lambda: not unfinished(made))
        await someone.hears_all(len(ALL), f"{BASE}/response/")
        await until(lambda: not made.query("SELECT 1 FROM outbox"))
        heard = [
            (str(m.topic).rsplit("/", 1)[1], bytes(m.payload))
            for m in someone.heard
            if str(m.topic).startswith(f"{BASE}/response/")
        ]

    assert set(heard) == set(stored(made).items())
    assert attempts(made) == dict.fromkeys(WAITING, 1) | {"running": 2}
    assert runs(made) == Counter(dict.fromkeys(WAITING, 1)) + Counter(running=2)
    _, servers = made.engine_processes()
    assert len(servers) == 1
    assert orphan not in servers
    made.stop_daemon()
    assert made.ours() == []


async def test_killed_in_three_lives(make_rig: MakeRig) -> None:
    """Each life counts as an attempt of the one that ran, and of no other; then it is given up."""
    made = make_rig(max_running=1)
    held(made)
    for life in range(3):
        made.start_daemon()
        if not life:
            await submit(made, "poor", "poor")
            await submit(made, "other", "other")
        await until(lambda: runs(made)["poor"] == life + 1)  # noqa: B023
        made.stop_daemon(signal.SIGKILL)
    let_go(made)
    made.start_daemon()
    await until(lambda: not unfinished(made))

    rows = made.query("SELECT id, state, code, attempts FROM inbox ORDER BY seq")
    assert rows == [
        {"id": "poor", "state": "failed", "code": "gave_up", "attempts": 3},
        {"id": "other", "state": "done", "code": None, "attempts": 1},
    ]
    assert runs(made) == Counter(poor=3, other=1)
