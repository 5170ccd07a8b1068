"""What people do to an appliance, in a box: publish, ask, look, kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.systemd.box import Box

T = TypeVar("T")

UNIT = "wattnap.service"
LISTENER = "mosquitto_sub -V 5 -c -x 3600 -i listener -q 1 -t wattnap/home/response/#"

# Each process of the daemon's user: pid, control group, command.
PROCESSES = r"""
for pid in $(pgrep -u wattnap); do
    group=$(sed -n 's/^0:://p' /proc/$pid/cgroup) &&
        command=$(tr '\0\n' '  ' </proc/$pid/cmdline) &&
        echo "$pid $group $command"
done 2>/dev/null
:
"""


@dataclass(frozen=True, slots=True)
class Process:
    """group  of control, from the top of the box's tree"""

    pid: int
    group: str
    command: str


class Machine:
    """A booted box with the product in it."""

    def __init__(self, box: Box) -> None:
        self.box = box

    # The broker's side: any user may.

    def listen(self) -> None:
        """From now on the broker keeps the answers for us, also while nobody listens."""
        self.box.run(f"{LISTENER} -E", user="nobody")

    def publish(self, prompts: dict[str, str]) -> None:
        """Send prompts: id -> text."""
        self.box.run(
            "\n".join(
                f"mosquitto_pub -V 5 -q 1 -t wattnap/home/request/main/{id} -m '{text}'"
                for id, text in prompts.items()
            ),
            user="nobody",
        )

    def answers(self, count: int, *, within_s: int = 60) -> dict[str, dict[str, Any]]:
        """Of the next `count` requests to end, by id. A copy must be the same, to the byte."""
        found: dict[str, str] = {}
        deadline = time.monotonic() + within_s
        while len(found) < count and time.monotonic() < deadline:
            lack = count - len(found)
            how = f"{LISTENER} -C {lack} -W {within_s}"
            said = self.box.tries(how, user="nobody", within_s=within_s + 5).stdout
            for line in said.splitlines():
                id = json.loads(line)["id"]
                assert found.setdefault(id, line) == line
        return {id: json.loads(line) for id, line in found.items()}

    # The command line.

    def wattnap(self, command: str, *, user: str = "wattnap") -> dict[str, Any]:
        """What a command says with --json."""
        return dict(json.loads(self.box.run(f"wattnap {command} --json", user=user)))

    def status(self) -> dict[str, Any]:
        return self.wattnap("status", user="member")

    def outcomes(self) -> list[tuple[str, str]]:
        """Of each request that ended: id and state, sorted."""
        rows = self.wattnap("requests --limit 1000")["requests"]
        return sorted((row["id"], row["state"]) for row in rows)

    # The service manager.

    def systemctl(self, *command: str) -> str:
        done = self.box.enter("systemctl", *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.systemctl("show", "--value", f"--property={name}", UNIT).strip()

    def journal(self) -> str:
        return self.box.enter("journalctl", "--unit", UNIT, "--output=cat", "--no-pager").stdout

    # Processes.

    @property
    def daemon(self) -> int:
        return int(self.show("MainPID"))

    def processes(self) -> list[Process]:
        lines = self.box.enter("sh", "-c", PROCESSES).stdout.splitlines()
        return [Process(int(pid), *rest) for pid, *rest in (line.split(" ", 2) for line in lines)]

    def engine(self) -> list[Process]:
        """Processes in the engine's own control group."""
        return [each for each in self.processes() if each.group.endswith(f"{UNIT}/engine/main")]

    def kill(self, pid: int, signal: str = "KILL") -> None:
        done = self.box.enter("kill", "-s", signal, str(pid))
        assert done.returncode == 0, done.stderr

    def awake(self) -> list[Process]:
        """The engine's processes, once it serves."""
        return eventually(lambda: self.status()["state"] == "awake" and self.engine())

    def left_of(self, before: Iterable[Process]) -> list[Process]:
        return sorted(set(before) & set(self.processes()), key=lambda each: each.pid)


def eventually(ask: Callable[[], T], within_s: float = 30) -> T:
    """The first answer that is true. Looks again and again: outside nothing tells us."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within_s} s"
        time.sleep(0.1)
    return answer
