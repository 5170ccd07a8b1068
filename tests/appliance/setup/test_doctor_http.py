"""The check-up's look at the HTTP door."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Mqtt
from appliance.config_http import Http
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.doctor import gather, judge
from tests.appliance.commands import daemon, wattnap, write_config
from tests.brokers import free_port
from tests.trees import BASE, NOBODY, write


def found(folder: Path, **http: Any) -> Finding:
    """What is said of it, on a machine with nothing else to say."""
    config = Config(state_dir=str(folder), mqtt=Mqtt(enabled=False), http=Http(**http))
    facts = gather(config, root=write(folder / "root", BASE), account=NOBODY)
    (finding,) = [f for f in judge(facts).findings if f.what == "HTTP"]
    return finding


def test_no_door(tmp_path: Path) -> None:
    """As it is installed."""
    finding = found(tmp_path)

    assert (finding.severity, finding.says) == (Severity.FINE, "none, as configured")


def test_a_port_that_is_free(tmp_path: Path) -> None:
    """Nothing amiss while the daemon does not run."""
    finding = found(tmp_path, listen=f"127.0.0.1:{free_port()}")

    assert finding.severity is Severity.NOTE
    assert "is free" in finding.says


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"])
def test_a_port_that_is_taken(says: bytes, tmp_path: Path) -> None:
    """Whatever the other program speaks, or if it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        other.settimeout(10)

        def answer() -> None:
            client, _ = other.accept()
            with client:
                client.sendall(says)

        with ThreadPoolExecutor(1) as beside:
            answered = beside.submit(answer)
            finding = found(tmp_path, listen=f"127.0.0.1:{port}")
            answered.result()

    assert finding.severity is Severity.TROUBLE
    assert finding.exit_status == os.EX_CONFIG
    assert f"another program listens at 127.0.0.1:{port}" in finding.says
    assert "ss -ltnp" in finding.fix[0]


@pytest.mark.parametrize(
    ("content", "mode", "severity", "says"),
    [
        ("kitchen: " + "k" * 20, 0o600, Severity.NOTE, "is free"),
        ("kitchen: " + "k" * 20, 0o640, Severity.NOTE, "is free"),
        ("kitchen: " + "k" * 20, 0o644, Severity.WARNING, "every user of this machine can read"),
        ("short", 0o600, Severity.TROUBLE, "line 1"),
        (None, 0o600, Severity.TROUBLE, "no such file"),
    ],
)
def test_keys(
    content: str | None, mode: int, severity: Severity, says: str, tmp_path: Path
) -> None:
    """They are there, are keys, and are not everybody's."""
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
        keys.chmod(mode)
    finding = found(tmp_path, listen=f"127.0.0.1:{free_port()}", api_keys_file=str(keys))

    assert finding.severity is severity
    assert says in finding.says
    assert severity is Severity.NOTE or str(keys) in finding.fix[0]


def test_credentials_are_not_there_while_the_service_is_not(tmp_path: Path) -> None:
    """That is no fault of theirs."""
    name = "/run/credentials/none.service/http-keys"
    finding = found(tmp_path, listen=f"127.0.0.1:{free_port()}", api_keys_file=name)

    assert finding.severity is Severity.NOTE


def test_a_door_that_is_open(tmp_path: Path) -> None:
    """Of a daemon that runs."""
    port = free_port()
    config = write_config(tmp_path, f'[http]\nlisten = "127.0.0.1:{port}"\n')
    with daemon(config, tmp_path / "log"):
        told = wattnap("doctor", config=config).stdout

    assert f"127.0.0.1:{port} answers, without a key" in " ".join(told.split())
