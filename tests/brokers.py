"""A real Mosquitto for tests: started, stopped, killed and frozen at will."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

CONF = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 1000000
set_tcp_nodelay true
user {user}
"""


def free_port() -> int:
    """Of this machine; nobody listens there now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A child of the test on a free port, with a persistent store in `folder`.

    `more`: lines for its configuration; {folder} is filled in.
    """

    def __init__(self, program: str, folder: Path, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._program, self._folder = program, folder
        self._conf = folder / "mosquitto.conf"
        # Started as root, it would become a user who may not write here.
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._conf.write_text((CONF + more).format(port=self.port, folder=folder, user=user))
        self._process: subprocess.Popen[bytes] | None = None
        self._written_at = 0

    def start(self) -> None:
        """Return once it accepts connections."""
        log = (self._folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._program, "-v", "-c", self._conf], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
            assert time.monotonic() < deadline, "the broker does not listen"
            time.sleep(0.01)  # nothing tells us when another program listens

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)
            self._process = None

    def saved(self) -> bool:
        """True once it has written its sessions and messages since this was last asked."""
        store = self._folder / "mosquitto.db"
        written_at = store.stat().st_mtime_ns if store.exists() else 0
        before, self._written_at = self._written_at, written_at
        return written_at > before

    def freeze(self) -> None:
        """Let it hang without closing anything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
