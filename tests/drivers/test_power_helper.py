"""wattnap-power over real sockets and pidfds: who may ask what about whom."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.power_helper import (
    MAX_ALARM_S,
    MAX_PIDFDS,
    Denied,
    Helper,
    Request,
    main_pid_of,
    parse,
)
from tests.drivers.power import GROUP, UNIT, Machine
from tests.fakes.cuda import FakeCuda, sleeping


@pytest.fixture
def machine(place: Path) -> Machine:
    return Machine(place / "root")


def test_parks_an_engine_of_the_caller(
    machine: Machine, held: tuple[int, int], cuda_here: FakeCuda
) -> None:
    """A process in engine/<name> below the caller's group is parked and unparked."""
    machine.put(held[0], f"{GROUP}/engine/main")

    assert machine.ask(b"park", [held[1]])["status"] == 0
    assert cuda_here.state(held[0]) == "checkpointed"
    assert machine.ask(b"unpark", [held[1]])["status"] == 0
    assert cuda_here.state(held[0]) == "running"


@pytest.mark.parametrize(
    "group",
    [
        GROUP,
        f"{GROUP}/engine",
        f"{GROUP}/engine/main/below",
        f"{GROUP}/other/main",
        "/system.slice/sshd.service",
        f"/system.slice/sshd.service{GROUP}/engine/main",
        f"{GROUP}x/engine/main",
        "/engine/main",
        "/",
    ],
)
def test_not_an_engine_of_the_caller(
    machine: Machine, held: tuple[int, int], cuda_here: FakeCuda, group: str
) -> None:
    """A process anywhere else is refused, and CUDA is not even opened."""
    machine.put(held[0], group)

    assert "not in a control group" in machine.ask(b"park", [held[1]])["refused"]
    assert cuda_here.calls == []


def test_one_stranger_among_its_own(
    machine: Machine, held: tuple[int, int], cuda_here: FakeCuda
) -> None:
    """All must be the caller's, or nothing is done."""
    machine.put(held[0], f"{GROUP}/engine/main")
    own = os.pidfd_open(os.getpid())

    assert "refused" in machine.ask(b"park", [held[1], own])
    assert cuda_here.calls == []

    os.close(own)


def test_a_process_that_has_ended(machine: Machine) -> None:
    """Its pid may be another's by now: refused, and said to be gone."""
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
        machine.put(process.pid, f"{GROUP}/engine/main")

    answer = machine.ask(b"park", [pidfd])

    assert "no process" in answer["refused"]
    assert answer["kind"] == "gone"

    os.close(pidfd)


def test_a_process_that_nobody_has_waited_for(machine: Machine) -> None:
    """It still has a pid, and is gone all the same."""
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
        machine.put(process.pid, f"{GROUP}/engine/main")
        process.kill()
        select.select([pidfd], [], [])

        assert machine.ask(b"park", [pidfd])["kind"] == "gone"

    os.close(pidfd)


def test_a_descriptor_that_names_no_process(machine: Machine) -> None:
    """A file, a socket or a pipe is no pidfd."""
    with Path(os.devnull).open() as file, socket.socket() as sock:
        for descriptor in (file.fileno(), sock.fileno()):
            answer = machine.ask(b"park", [descriptor])

            assert "no process" in answer["refused"]
            assert "kind" not in answer


def test_not_the_main_process(machine: Machine, held: tuple[int, int]) -> None:
    """Another process of the unit's, the engine above all, may ask for nothing."""
    machine.main_pid = held[0]

    assert "not the main process" in machine.ask(b"gpu-auto")["refused"]

    machine.main_pid = 0

    assert "not the main process" in machine.ask(b"gpu-auto")["refused"]


@pytest.mark.parametrize("group", ["/user.slice/me.scope", f"{GROUP}/engine", "/"])
def test_not_in_the_units_group(machine: Machine, group: str) -> None:
    """The main process must be in the unit's own group."""
    machine.put(os.getpid(), group)

    assert "not in the control group" in machine.ask(b"gpu-auto")["refused"]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"PARK",
        b"park ",
        b"park 1",
        b"lock",
        b"state",
        b"gpu-auto 1",
        b"alarm",
        b"alarm -1",
        b"alarm 604801",
        b"alarm 1 1",
        b"alarm 1\n",
        b"suspend 1",
        b"suspend; true",
        "gpu-auto".encode("utf-16"),
        b"\xff" * 32,
    ],
)
def test_no_such_request(machine: Machine, packet: bytes) -> None:
    """What is not on the list is refused, without a guess at what was meant."""
    assert machine.ask(packet) == {"refused": "no such request"}


def test_a_request_that_is_too_long(machine: Machine, held: tuple[int, int]) -> None:
    """Neither bytes nor descriptors beyond the bounds are looked at."""
    assert machine.ask(b"gpu-auto" + b" " * 100) == {"refused": "too long"}
    assert machine.ask(b"park", [held[1]] * (MAX_PIDFDS + 1)) == {"refused": "too long"}


def test_descriptors_are_closed(machine: Machine, held: tuple[int, int]) -> None:
    """Whatever is sent, nothing of it stays open."""
    before = sorted(Path("/proc/self/fd").iterdir())
    for packet in (b"park", b"gpu-auto", b"nonsense", b"x" * 99):
        machine.ask(packet, [held[1]] * 3)

    assert sorted(Path("/proc/self/fd").iterdir()) == before


@given(st.binary(max_size=40), st.integers(0, 3))
def test_parse_takes_nothing_else(packet: bytes, pidfds: int) -> None:
    """Whatever comes, it is one of the requests on the list, or Denied."""
    with contextlib.suppress(Denied):
        request = parse(packet, range(pidfds))

        assert packet.decode().startswith(request.verb)
        assert request.number is None or 0 <= request.number <= MAX_ALARM_S
        assert bool(pidfds) == (request.verb in {"park", "unpark"})


@given(
    st.sampled_from(["park", "unpark", "gpu-auto", "gpu-on", "suspend", "alarm"]), st.text("0 9")
)
def test_parse_near_misses(verb: str, rest: str) -> None:
    """Only the exact words pass."""
    with contextlib.suppress(Denied):
        packet = f"{verb}{rest}".encode()
        request = parse(packet, (3,) if "park" in verb else ())

        assert request.number is not None if verb == "alarm" else not rest


def test_parse() -> None:
    """The requests, as they are."""
    assert parse(b"park", (3,)) == Request("park", None, (3,))
    assert parse(b"alarm 3600", ()) == Request("alarm", 3600, ())


def test_runtime_pm(machine: Machine) -> None:
    """The GPUs of this machine, and nothing else on the bus, may suspend or may not."""
    controls = {}
    for address, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),
        ("0000:01:00.1", "0x10de", "0x040300"),
        ("0000:02:00.0", "0x8086", "0x030000"),
    ):
        device = machine.root / f"sys/bus/pci/devices/{address}"
        (device / "power").mkdir(parents=True)
        (device / "vendor").write_text(vendor)
        (device / "class").write_text(kind)
        controls[address] = device / "power/control"
        controls[address].write_text("on")
    version = machine.root / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Release\n")
    (machine.root / "dev").mkdir()
    (machine.root / "dev/nvidiactl").touch()

    assert machine.ask(b"gpu-auto") == {"status": 0, "said": ""}
    assert [file.read_text() for file in controls.values()] == ["auto", "on", "on"]

    machine.ask(b"gpu-on")

    assert controls["0000:01:00.0"].read_text() == "on"


def test_alarm(machine: Machine) -> None:
    """The clock's alarm is set from now; without a clock the answer says which file."""
    assert "wakealarm" in machine.ask(b"alarm 60")["said"]

    file = machine.root / "sys/class/rtc/rtc0/wakealarm"
    file.parent.mkdir(parents=True)

    assert machine.ask(b"alarm 60")["status"] == 0
    assert file.read_text() == "+60"

    machine.ask(b"alarm 0")

    assert file.read_text() == "0"


def test_suspend_only_if_allowed(
    machine: Machine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --allow-suspend it is refused; with it systemd is asked."""
    assert "not allowed" in machine.ask(b"suspend")["refused"]

    program = place / "systemctl"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr("drivers.power_helper.SYSTEMCTL", str(program))
    machine.allow_suspend = True

    assert machine.ask(b"suspend") == {"status": 0, "said": "suspend\n"}


def test_a_caller_that_says_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left after a while; there is nobody to tell."""
    monkeypatch.setattr("drivers.power_helper.RECEIVE_S", 0.05)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        Helper(UNIT, root=machine.root, main_pid=lambda _: os.getpid()).serve(theirs)

        assert ours.recv(100) == b""


@pytest.mark.parametrize(
    ("script", "pid"), [("echo 17", 17), ("echo 0", 0), ("echo", 0), ("exit 1", None)]
)
def test_the_main_process_by_systemd_s_word(
    place: Path, monkeypatch: pytest.MonkeyPatch, script: str, pid: int | None
) -> None:
    """Where systemd cannot be asked, that is another answer than that there is none."""
    program = place / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("drivers.power_helper.SYSTEMCTL", str(program))
    if pid is None:
        with pytest.raises(subprocess.SubprocessError):
            main_pid_of(UNIT)
    else:
        assert main_pid_of(UNIT) == pid
