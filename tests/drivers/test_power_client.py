"""What the daemon makes of wattnap-power's answers, over a socket file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from drivers.checkpointer import Direct
from drivers.errors import Denied, Died, NotPermitted, Refused, Unresponsive
from drivers.power_client import OwnFirst, Power
from drivers.power_helper import Helper
from tests.drivers.power import GROUP, UNIT, Listener, Machine
from tests.fakes.cuda import FakeCuda, sleeping


@pytest.fixture
def machine(place: Path) -> Machine:
    return Machine(place / "root")


async def test_the_client(
    machine: Machine, place: Path, held: tuple[int, int], cuda_here: FakeCuda
) -> None:
    """Over a socket file: parked, unparked; a failure and a refusal come as errors."""
    helper = Helper(UNIT, root=machine.root, main_pid=lambda _: os.getpid())
    listener = Listener(place / "power.sock", lambda c: helper.serve(c.dup()))
    power = Power(listener.path)
    machine.put(held[0], f"{GROUP}/engine/main")
    try:
        await power.move("park", [held[1]])

        assert cuda_here.state(held[0]) == "checkpointed"

        await power.move("unpark", [held[1]])
        cuda_here.plan("fail", "checkpoint", 2)
        with pytest.raises(Refused, match="OUT_OF_MEMORY"):
            await power.move("park", [held[1]])
        machine.put(held[0], "/")
        with pytest.raises(Denied, match="control group"):
            await power.move("park", [held[1]])
        with pytest.raises(Unresponsive, match=r"stays parked: .*control group"):
            await power.move("unpark", [held[1]])
    finally:
        listener.close()


@pytest.mark.parametrize("verb", ["park", "unpark"])
async def test_an_engine_that_ends_before_the_helper_looks(
    machine: Machine, place: Path, verb: Literal["park", "unpark"]
) -> None:
    """Is Died, as it would have been without the helper: no reason never to park again."""
    helper = Helper(UNIT, root=machine.root, main_pid=lambda _: os.getpid())
    listener = Listener(place / "power.sock", lambda c: helper.serve(c.dup()))
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
        machine.put(process.pid, f"{GROUP}/engine/main")
    try:
        with pytest.raises(Died):
            await Power(listener.path).move(verb, [pidfd])
    finally:
        listener.close()
        os.close(pidfd)


@pytest.mark.parametrize(
    "trouble", [subprocess.TimeoutExpired("systemctl", 5), OSError(24, "Too many open files")]
)
async def test_a_helper_that_gets_no_word_from_systemd(
    machine: Machine, place: Path, held: tuple[int, int], trouble: Exception
) -> None:
    """Refuses this time: all is as before, and may go another time."""

    def nothing(unit: str) -> int:
        raise trouble

    helper = Helper(UNIT, root=machine.root, main_pid=nothing)
    listener = Listener(place / "power.sock", lambda c: helper.serve(c.dup()))
    try:
        with pytest.raises(Refused, match=f"no word from systemd on {UNIT}"):
            await Power(listener.path).move("park", [held[1]])
    finally:
        listener.close()


async def test_an_older_helper(place: Path, held: tuple[int, int]) -> None:
    """It says of no refusal what kind it is."""
    answer = json.dumps({"refused": "no process"}).encode()
    listener = Listener(place / "power.sock", lambda c: [c.recv(4096), c.send(answer)].clear())
    try:
        with pytest.raises(Denied, match="no process"):
            await Power(listener.path).move("park", [held[1]])
    finally:
        listener.close()


async def test_our_own_right_comes_first(
    machine: Machine, place: Path, held: tuple[int, int], cuda_here: FakeCuda
) -> None:
    """The helper is asked for nothing while we may; once we may not, it does all of it."""
    helper, asked = Helper(UNIT, root=machine.root, main_pid=lambda _: os.getpid()), []

    def serve(connection: socket.socket) -> None:
        asked.append("")
        helper.serve(connection.dup())

    listener = Listener(place / "power.sock", serve)
    either = OwnFirst(Direct(env=cuda_here.env), Power(listener.path))
    machine.put(held[0], f"{GROUP}/engine/main")
    try:
        await either.move("park", [held[1]])
        await either.move("unpark", [held[1]])

        assert not asked

        cuda_here.plan("fail", "state", 304)
        with pytest.raises(NotPermitted):  # the helper is told the same by this libcuda
            await either.move("park", [held[1]])

        assert len(asked) == 1

        cuda_here.heal()
        await either.move("park", [held[1]])

        assert cuda_here.state(held[0]) == "checkpointed"

        await either.move("unpark", [held[1]])

        assert len(asked) == 3
        assert cuda_here.state(held[0]) == "running"
    finally:
        await either.forget()
        listener.close()


async def test_after_our_own_way_broke(
    machine: Machine, place: Path, held: tuple[int, int], cuda_here: FakeCuda
) -> None:
    """What is somewhere between is left to be stopped; the next is the helper's."""
    helper = Helper(UNIT, root=machine.root, main_pid=lambda _: os.getpid())
    listener = Listener(place / "power.sock", lambda c: helper.serve(c.dup()))
    either = OwnFirst(Direct(env=cuda_here.env), Power(listener.path))
    machine.put(held[0], f"{GROUP}/engine/main")
    try:
        cuda_here.plan("fail", "checkpoint")
        cuda_here.plan("fail", "unlock")
        with pytest.raises(Unresponsive, match="now locked"):
            await either.move("park", [held[1]])
        cuda_here.heal()
        await either.move("park", [held[1]])

        assert isinstance(either._way, Power)
        assert cuda_here.state(held[0]) == "checkpointed"
    finally:
        await either.forget()
        listener.close()


async def test_the_client_without_a_helper(place: Path, held: tuple[int, int]) -> None:
    """No socket is Refused, all as before; a helper that goes away is not."""
    with pytest.raises(Refused, match="No such file"):
        await Power(place / "power.sock").move("park", [held[1]])

    listener = Listener(place / "power.sock", lambda c: [c.recv(4096)].clear())
    try:
        with pytest.raises(Unresponsive, match="no answer"):
            await Power(listener.path).move("park", [held[1]])
    finally:
        listener.close()
