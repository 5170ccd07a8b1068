"""A whole installation in a folder: broker, daemon, engine process; started, killed, counted.

The engine is tests/fakes/vllm_server.py (a process that speaks vLLM's HTTP),
or a real vLLM where its Python is given. Used by the benchmarks beside it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from appliance.storage.reading import reading
from tests.brokers import Mosquitto

MARK = "RIG_MARK"  # not ours to strip from an engine's environment, unlike WATTNAP_

CONFIG = """
name = "rig"
state_dir = "{folder}/state"
runtime_dir = "{run}"
[mqtt]
port = {port}
keep_alive_s = {keep_alive_s}
retry_min_s = 0.1
retry_max_s = 2.0
[engine]
kind = "{kind}"
python = "{python}"
model = "{model}"
device = "cpu"
max_model_len = 2048
kv_cache_mib = 64
enforce_eager = true
max_running = {max_running}
start_timeout_s = 120
stall_timeout_s = {stall_timeout_s}
[power]
idle_timeout_s = {idle_timeout_s}
bake = false
[inbox]
max_waiting = 1000000
[energy]
meter = "{meter}"
[http]
listen = "{http}"
"""


@dataclass
class Rig:
    """folder         everything is in here
    switches       of the pretended engine
    engine_python  of a real vLLM; then `model` is what it serves
    http           where its HTTP door listens; "": nowhere
    """

    folder: Path
    idle_timeout_s: float = 3600.0
    max_running: int = 64
    stall_timeout_s: float = 60.0
    keep_alive_s: int = 5
    switches: tuple[str, ...] = ()
    engine_python: str = ""
    model: str = "fake"
    http: str = ""
    meter: str = "cpu_time"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    daemon: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        program = os.environ.get("WATTNAP_TEST_MOSQUITTO") or program
        if program is None:
            sys.exit("mosquitto is not installed")
        self.broker = Mosquitto(program, self.folder / "broker")
        self.config = self.folder / "wattnap.toml"
        self.run = self.folder / "run"
        self.engine_log = self.folder / "engine.log"
        self.config.write_text(
            CONFIG.format(
                folder=self.folder,
                run=self.run,
                port=self.broker.port,
                kind="vllm",
                python=self.engine_python or sys.executable,
                model=self.model,
                meter=self.meter,
                http=self.http,
                max_running=self.max_running,
                stall_timeout_s=self.stall_timeout_s,
                keep_alive_s=self.keep_alive_s,
                idle_timeout_s=self.idle_timeout_s,
            )
        )

    @property
    def socket(self) -> Path:
        return self.run / "wattnap.sock"

    @property
    def database(self) -> Path:
        return self.folder / "state" / "wattnap.db"

    def start_daemon(self) -> None:
        """Return once its socket accepts."""
        if self.engine_python:
            command = [sys.executable, "-m", "appliance", "run", "--config", str(self.config)]
        else:
            log = ("--log", str(self.engine_log))
            command = [sys.executable, "-m", "tests.fakes.daemon", str(self.config)]
            command += [*log, *self.switches]
        with (self.folder / "daemon.log").open("ab") as log_file:
            self.daemon = subprocess.Popen(
                command,
                stdout=log_file,
                stderr=log_file,
                cwd=Path(__file__).parent.parent,
                env=os.environ | {MARK: self.mark, "PYTHONPATH": str(Path(__file__).parent.parent)},
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self._listens():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the daemon did not start:\n{self.tail('daemon.log')}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        import socket

        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return True
        return False

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.daemon is not None
        self.daemon.send_signal(how)
        self.daemon.wait(60)

    def ours(self) -> list[psutil.Process]:
        """Every process of this rig's daemon, itself included, by their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != "zombie":
                    found.append(process)
        return found

    def engine_processes(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """(guards, engine servers) that run now."""
        guards, servers = [], []
        for process in self.ours():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if "guard.py" in command:
                    guards.append(process)
                elif "--uds" in command or "VLLM::" in command:
                    servers.append(process)
        return guards, servers

    def query(self, sql: str) -> list[dict[str, Any]]:
        with reading(self.database) as db:
            return list(db.query(sql))

    def tail(self, name: str, lines: int = 20) -> str:
        return "\n".join((self.folder / name).read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def rig(folder: Path, **settings: Any) -> Iterator[Rig]:
    """A rig with its broker running; afterwards nothing of it runs."""
    made = Rig(folder, **settings)
    made.broker.start()
    try:
        yield made
    finally:
        for process in made.ours():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if made.daemon is not None:
            made.daemon.wait(10)
        made.broker.stop(signal.SIGKILL)


def machine() -> dict[str, Any]:
    """Where a benchmark ran: enough to read its figures by."""
    return {
        "cpu_count": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": os.getloadavg()[0],
    }


def report(result: dict[str, Any]) -> None:
    """One line of JSON, as every benchmark prints."""
    print(msgspec.json.encode(result).decode())
