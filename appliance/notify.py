"""Tells the service manager how we are: sd_notify(3). Does nothing where there is none."""

from __future__ import annotations

import contextlib
import os
import socket


def ready(status: str) -> None:
    """The doors are open."""
    _tell(f"READY=1\nSTATUS={status}")


def status(text: str) -> None:
    """One line for `systemctl status`."""
    _tell(f"STATUS={text}")


def stopping() -> None:
    _tell("STOPPING=1")


def alive() -> None:
    """Due once in `watchdog_s()`."""
    _tell("WATCHDOG=1")


def watchdog_s() -> float | None:
    """Half of the time after which the manager would restart us; None: it does not watch."""
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 2e6 if watched and limit_us.isdecimal() else None


def _tell(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading @ stands for the NUL of an abstract socket, unix(7).
    address = f"\0{path[1:]}" if path.startswith("@") else path
    # A manager that has gone or is busy must not stop us.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.setblocking(False)
        manager.sendto(message.encode(), address)
