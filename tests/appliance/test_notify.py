"""sd_notify, against a real datagram socket in the manager's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import notify


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Where a service manager listens: at a path, or under an abstract name."""
    path = str(tmp_path / "notify")
    abstract = request.param == "abstract"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(f"\0{path}" if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
        yield listener


def test_a_whole_life(manager: socket.socket) -> None:
    """Each call is one datagram."""
    notify.ready("asleep")
    notify.alive()
    notify.status("awake, 2 running")
    notify.stopping()
    told = [manager.recv(4096).decode() for _ in range(4)]

    assert told == [
        "READY=1\nSTATUS=asleep",
        "WATCHDOG=1",
        "STATUS=awake, 2 running",
        "STOPPING=1",
    ]


def test_without_a_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, there is nobody to tell, and nothing to fail."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready("asleep")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notify.ready("asleep")


@pytest.mark.parametrize(
    ("limit", "pid", "expected"),
    [
        ("10000000", None, 5.0),
        ("10000000", "us", 5.0),
        ("10000000", "1", None),
        ("", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog(
    limit: str, pid: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what systemd allows; not when it watches another process."""
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "us" else pid)

    assert notify.watchdog_s() == expected
