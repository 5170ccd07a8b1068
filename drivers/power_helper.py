"""wattnap-power: the few things that take root, done for one daemon and nobody else.

Run by systemd once per connection (Accept=yes, StandardInput=socket), as

    wattnap-power --unit wattnap.service [--allow-suspend]

It reads one packet, answers with one, and ends. The packet is a verb, for `alarm` a
space and a number, and with it, for the first two, the pidfds of processes:

    park       take an engine's processes off the GPU (drivers.checkpoint)
    unpark     put them back
    gpu-auto   let the NVIDIA GPUs suspend when nobody uses them (runtime PM)
    gpu-on     do not
    alarm N    have the clock wake the machine in N seconds; 0: not any more
    suspend    put the machine to sleep; only with --allow-suspend

The answer is JSON: {"status": exit status, "said": output}, or {"refused": why}, with
"kind" beside it where the same request would be answered otherwise another time:

    gone     a process has ended
    passing  this machine was short of something, or slow; nothing was done

The caller must be the main process of UNIT, in the unit's own control group. A process
to park must be in `engine/<name>` below that group: what the daemon could have killed
itself. Nothing that the caller sends becomes part of a path or of a command; the
pidfds are passed on as they are. Standard library only, no configuration, no state.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from drivers import cgroup
from drivers.checkpoint import LIMIT_S, PATIENCE_S, StepFailed, command, pid_of
from drivers.probe import nvidia_gpus

SYSTEMCTL = "/usr/bin/systemctl"
SO_PEERPIDFD = 77  # asm-generic/socket.h; Linux 6.5 and newer

PACKET_BYTES = 32
MAX_PIDFDS = 16
RECEIVE_S = 5.0
MAX_ALARM_S = 7 * 86400
REQUEST = re.compile(rb"([a-z-]{1,16})(?: ([0-9]{1,8}))?")


class Denied(Exception):
    """It will not be done. The message is for the caller and the log."""

    kind = ""


class Gone(Denied):
    """A process has ended since the caller has looked."""

    kind = "gone"


class Passing(Denied):
    """It cannot be done just now."""

    kind = "passing"


class Request(NamedTuple):
    verb: str
    number: int | None
    pidfds: Sequence[int]


class Answer(NamedTuple):
    status: int
    said: str = ""


class Helper:
    """Checks and carries out requests of one unit's daemon.

    root      where /proc and /sys are; tests move it
    main_pid  tells the main process of a unit, as main_pid_of() does
    """

    def __init__(
        self,
        unit: str,
        *,
        allow_suspend: bool = False,
        root: Path = Path("/"),
        main_pid: Callable[[str], int],
    ) -> None:
        self._unit = unit
        self._allow_suspend = allow_suspend
        self._root = root
        self._main_pid = main_pid

    def serve(self, connection: socket.socket) -> None:
        """Answer one request. What goes wrong with the connection is the caller's loss."""
        connection.settimeout(RECEIVE_S)
        pidfds: list[int] = []
        with contextlib.closing(connection), contextlib.suppress(OSError):
            try:
                packet, pidfds, flags, _ = socket.recv_fds(
                    connection, PACKET_BYTES, MAX_PIDFDS, socket.MSG_CMSG_CLOEXEC
                )
                reply = self._reply(connection, packet, pidfds, flags)
                connection.send(json.dumps(reply).encode())
            finally:
                for pidfd in pidfds:
                    os.close(pidfd)

    def _reply(
        self, connection: socket.socket, packet: bytes, pidfds: Sequence[int], flags: int
    ) -> dict[str, object]:
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Denied("too long")
            group = self._caller_group(connection)
            request = parse(packet, pidfds)
            answer = self._carry_out(request, group)
        except Denied as denied:
            log(f"refused: {denied}")
            return {"refused": str(denied), **({"kind": denied.kind} if denied.kind else {})}
        log(f"{packet.decode()}: status {answer.status}")
        return answer._asdict()

    def _caller_group(self, connection: socket.socket) -> Path:
        """The unit's control group. Raises Denied unless its main process is the caller."""
        pidfd = peer_pidfd(connection)
        try:
            pid = pid_of(pidfd)
            if pid != self._find_main_pid():
                raise Denied(f"the caller is not the main process of {self._unit}")
            group = cgroup.find_path(pid, self._root)
        except (StepFailed, OSError) as error:
            raise Denied(f"the caller cannot be looked at: {error}") from error
        finally:
            os.close(pidfd)
        if group is None or group.name != self._unit:
            raise Denied(f"the caller is not in the control group of {self._unit}")
        return group

    def _find_main_pid(self) -> int:
        try:
            return self._main_pid(self._unit)
        except (OSError, subprocess.SubprocessError) as error:
            raise Passing(f"no word from systemd on {self._unit}: {error}") from error

    def _carry_out(self, request: Request, group: Path) -> Answer:
        match request.verb:
            case "park" | "unpark":
                for pidfd in request.pidfds:
                    self._check_target(pidfd, group)
                return run(
                    command(request.verb, request.pidfds, LIMIT_S),
                    within_s=LIMIT_S + PATIENCE_S,
                    pass_fds=request.pidfds,
                )
            case "gpu-auto" | "gpu-on":
                return self._set_runtime_pm(request.verb.removeprefix("gpu-"))
            case "alarm":
                return self._set_alarm(request.number or 0)
            case _:
                if not self._allow_suspend:
                    raise Denied("suspending is not allowed on this machine")
                return run([SYSTEMCTL, "suspend"], within_s=LIMIT_S)

    def _check_target(self, pidfd: int, group: Path) -> None:
        try:
            target = cgroup.find_path(pid_of(pidfd), self._root)
        except (StepFailed, OSError) as error:
            kind = Gone if is_pidfd(pidfd) else Denied
            raise kind(f"no process to be found behind a descriptor: {error}") from error
        if target is None or target.parent != group / "engine":
            raise Denied("a process is not in a control group of the unit's engines")

    def _set_runtime_pm(self, control: str) -> Answer:
        addresses = [gpu.address for gpu in nvidia_gpus(self._root)]
        files = [self._root / f"sys/bus/pci/devices/{at}/power/control" for at in addresses]
        return write([(file, control) for file in files if file.exists()])

    def _set_alarm(self, seconds: int) -> Answer:
        file = self._root / "sys/class/rtc/rtc0/wakealarm"
        # An alarm that is set must be cleared before it may be set anew (rtc(4)).
        return write([(file, "0"), *([(file, f"+{seconds}")] if seconds else [])])


def parse(packet: bytes, pidfds: Sequence[int]) -> Request:
    """The request that a packet is. Raises Denied for anything else."""
    found = REQUEST.fullmatch(packet)
    verb = found[1].decode() if found else ""
    number = int(found[2]) if found and found[2] else None
    match verb:
        case "park" | "unpark" if number is None and pidfds:
            pass
        case "gpu-auto" | "gpu-on" | "suspend" if number is None and not pidfds:
            pass
        case "alarm" if number is not None and number <= MAX_ALARM_S and not pidfds:
            pass
        case _:
            raise Denied("no such request")
    return Request(verb, number, pidfds)


def peer_pidfd(connection: socket.socket) -> int:
    """A pidfd of who has connected."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        # An older kernel gives only the pid. Should that process be gone and its pid be
        # another's by now, the other must still be the unit's main process to pass.
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, _, _ = struct.unpack("3i", credentials)
        try:
            return os.pidfd_open(pid)
        except (OSError, ValueError) as error:  # it has gone, or has no pid here
            raise Denied("the caller is not there") from error


def is_pidfd(descriptor: int) -> bool:
    """Whether it names a process, or has: only such a one's has a line "Pid:" (proc(5))."""
    return "\nPid:" in Path(f"/proc/self/fdinfo/{descriptor}").read_text()


def run(arguments: Sequence[str], *, within_s: float, pass_fds: Sequence[int] = ()) -> Answer:
    try:
        done = subprocess.run(
            arguments,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            pass_fds=pass_fds,
        )
    except subprocess.TimeoutExpired:
        return Answer(-9)
    except OSError as error:
        raise Passing(f"cannot start a process: {error.strerror}") from error
    log(done.stderr.decode(errors="replace").strip())
    return Answer(done.returncode, done.stdout.decode(errors="replace"))


def write(values: Sequence[tuple[Path, str]]) -> Answer:
    try:
        for file, value in values:
            file.write_text(value)
    except OSError as error:
        return Answer(1, f"{error.filename}: {error.strerror}")
    return Answer(0)


def main_pid_of(unit: str) -> int:
    """As systemd knows it, 0 if there is none.

    Raises OSError, SubprocessError: systemd was not to be asked, or not in time.
    """
    show = [SYSTEMCTL, "show", "--property=MainPID", "--value", unit]
    done = subprocess.run(show, check=True, capture_output=True, timeout=RECEIVE_S)
    said = done.stdout.strip()
    return int(said) if said.isdigit() else 0


def log(text: str) -> None:
    if text:
        os.write(2, f"{text}\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="wattnap-power", description="Started by systemd.")
    parser.add_argument("--unit", required=True, help="whose main process may ask")
    parser.add_argument("--allow-suspend", action="store_true")
    options = parser.parse_args()
    helper = Helper(options.unit, allow_suspend=options.allow_suspend, main_pid=main_pid_of)
    helper.serve(socket.socket(fileno=os.dup(0)))


if __name__ == "__main__":
    main()
