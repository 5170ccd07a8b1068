"""The real command in processes of its own, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CONFIG = """
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
[mqtt]
enabled = false
[energy]
meter = "cpu_time"
[power]
idle_timeout_s = 60
"""

WATTNAP = (sys.executable, "-m", "appliance")


def write_config(folder: Path, more: str = "") -> Path:
    """A configuration whose files are all in `folder`."""
    path = folder / "wattnap.toml"
    path.write_text(CONFIG.format(folder=folder) + more)
    return path


def wattnap(
    *arguments: str, config: Path | None = None, given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    environ = {k: v for k, v in os.environ.items() if k != "WATTNAP_CONFIG"} | environment
    if config is not None:
        environ["WATTNAP_CONFIG"] = str(config)
    return subprocess.run(
        [*WATTNAP, *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )


def printed(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:  # JSON
    """The one line of JSON that it printed."""
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)  # type: ignore[no-any-return]


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that it said on stderr."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("wattnap: ")
    return line


@contextlib.contextmanager
def daemon(
    config: Path,
    log: Path,
    *arguments: str,
    stderr: IO[bytes] | None = None,
    stand_in: bool = False,
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """`wattnap run --fake`, ready, until the block ends; then told to stop.

    `stand_in`: instead, the daemon over a process that plays vLLM, with its switches.
    """
    command = [*WATTNAP, "--config", str(config), "run", "--fake"]
    if stand_in:
        command = [sys.executable, "-m", "tests.fakes.daemon", str(config)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("ab") as file:
        manager.bind("")  # the kernel names it, unix(7)
        manager.settimeout(30)
        notify = "@" + manager.getsockname().decode().removeprefix("\0")
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=file,
            stderr=stderr or file,
            env=os.environ | {"NOTIFY_SOCKET": notify} | environment,
        )
        with process:
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@contextlib.contextmanager
def configured_daemon(folder: Path) -> Iterator[Path]:
    """The configuration of one that runs until the block ends, with all its files in `folder`."""
    config = write_config(folder)
    with daemon(config, folder / "log"):
        yield config
