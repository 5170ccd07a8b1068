"""A machine on which wattnap-power may be asked, and one that listens as systemd does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drivers.power_helper import Helper

UNIT = "wattnap.service"
GROUP = f"/system.slice/{UNIT}"


class Machine:
    """A root with the control groups that we say, and a helper for this very process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.main_pid = os.getpid()
        self.put(os.getpid(), GROUP)
        self.allow_suspend = False

    def put(self, pid: int, group: str) -> None:
        folder = self.root / f"proc/{pid}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup").write_text(f"12:pids:/x\n0::{group}\n")

    def ask(self, packet: bytes, pidfds: Sequence[int] = ()) -> dict[str, Any]:
        """One request, from connection to answer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        helper = Helper(
            UNIT,
            allow_suspend=self.allow_suspend,
            root=self.root,
            main_pid=lambda unit: self.main_pid if unit == UNIT else 0,
        )
        server = threading.Thread(target=helper.serve, args=[theirs])
        with ours:
            server.start()
            socket.send_fds(ours, [packet], list(pidfds))
            answer = ours.recv(65536)
        server.join()
        said: dict[str, Any] = json.loads(answer)
        return said


class Listener:
    """wattnap-power as systemd would run it: a program for each connection."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], None]) -> None:
        self.path = path
        self._serve = serve
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    self._serve(connection)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
