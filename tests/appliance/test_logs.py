"""Log lines: with fields to the journal, in few words to a terminal, and no prompt in any."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import logs
from tests.appliance.commands import daemon, wattnap, write_config

SECRET = "the safe is behind the wardrobe"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a journal listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(str(tmp_path / "journal"))
        yield listener


@pytest.fixture
def logger(journal: socket.socket) -> Iterator[logging.Logger]:
    """One that writes to it, and nowhere else."""
    handler = logs.JournalHandler(journal.getsockname())
    logger = logging.getLogger("appliance.some_part")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()
    logger.propagate = True


def fields(datagram: bytes) -> dict[str, str]:
    """As systemd's JOURNAL_NATIVE_PROTOCOL says."""
    found = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, is_line, value = line.partition(b"=")
        if not is_line:
            length = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + length], datagram[8 + length + 1 :]
        found[name.decode()] = value.decode()
    return found


def test_fields_of_a_line(journal: socket.socket, logger: logging.Logger) -> None:
    """What it is about can be asked for; what is not known is left out."""
    logger.warning("%s: no luck", "tea-1", extra={"request": "tea-1"})

    assert fields(journal.recv(4096)) == {
        "MESSAGE": "tea-1: no luck",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "wattnap",
        "LOGGER": "appliance.some_part",
        "WATTNAP_REQUEST": "tea-1",
    }


def test_several_lines(journal: socket.socket, logger: logging.Logger) -> None:
    """One record, whatever is in it: nobody makes up a field with an id or a message."""
    logger.info("one\nPRIORITY=0\nthree")
    told = fields(journal.recv(4096))

    assert told["MESSAGE"] == "one\nPRIORITY=0\nthree"
    assert told["PRIORITY"] == "6"


def test_without_a_journal(
    journal: socket.socket, logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """Too long for a datagram, or nobody there: to stderr, each line with its priority."""
    logger.error("long\n%s", "x" * 1_000_000)
    Path(journal.getsockname()).unlink()
    logger.error("no journal")

    lines = capfd.readouterr().err.splitlines()
    assert [line[:7] for line in lines] == ["<3>long", "<3>xxxx", "<3>no j"]


def test_what_all_lines_are_about(journal: socket.socket) -> None:
    """A line's own word goes first; and it ends with the block."""
    root = logging.getLogger()
    handler = logs.JournalHandler(journal.getsockname())
    root.addHandler(handler)
    with logs.about(lambda: {"engine": "main", "depth": "off"}):
        root.error("a")
        root.error("b", extra={"depth": "parked"})
    root.error("c")
    root.removeHandler(handler)
    handler.close()
    a, b, c = (fields(journal.recv(4096)) for _ in range(3))

    assert (a["WATTNAP_ENGINE"], a["WATTNAP_DEPTH"]) == ("main", "off")
    assert (b["WATTNAP_ENGINE"], b["WATTNAP_DEPTH"]) == ("main", "parked")
    assert "WATTNAP_ENGINE" not in c


def test_whose_stderr_is_the_journal(tmp_path: Path, journal: socket.socket) -> None:
    """Only where systemd has connected it: else it is for people."""
    script = (
        "import logging; from appliance import logs;"
        f"logs.set_up(journal={journal.getsockname()!r}); logging.getLogger('x').warning('hm')"
    )
    with (tmp_path / "stderr").open("wb") as file:
        found = os.fstat(file.fileno())
        for stream in (f"{found.st_dev}:{found.st_ino}", "1:1"):
            environment = os.environ | {"JOURNAL_STREAM": stream}
            command = [sys.executable, "-c", script]
            subprocess.run(command, stderr=file, env=environment, check=True)

    assert fields(journal.recv(4096))["MESSAGE"] == "hm"
    assert (tmp_path / "stderr").read_text().endswith(" warning: hm\n")
    assert len((tmp_path / "stderr").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("modules", "ordinary", "warning"),
    [
        (False, "07:08:09 awake", "07:08:09 warning: awake"),
        (True, "07:08:09.040 drivers.vllm: awake", "07:08:09.040 warning: drivers.vllm: awake"),
    ],
)
def test_for_people(modules: bool, ordinary: str, warning: str) -> None:
    """What is no ordinary line says so; at debug where it comes from, and exactly when."""
    formatter = logs.Formatter(modules=modules)
    at_s = time.mktime((2026, 11, 22, 7, 8, 9, 0, 0, -1)) + 0.0405

    def line(level: int) -> str:
        about = {"name": "drivers.vllm", "levelno": level, "levelname": logging.getLevelName(level)}
        record = logging.makeLogRecord(about | {"msg": "%s", "args": ("awake",)})
        record.created, record.msecs = at_s, 40.5
        return formatter.format(record)

    assert line(logging.INFO) == ordinary
    assert line(logging.WARNING) == warning


@pytest.mark.parametrize("asked_for", [False, True])
def test_prompts(tmp_path: Path, asked_for: bool) -> None:
    """Not a word of them, whatever else is logged, unless the owner wants it so."""
    config = write_config(tmp_path, f"[log]\nprompts = {str(asked_for).lower()}\n")
    log = tmp_path / "log"
    with daemon(config, log, "--verbose"):
        wattnap("ask", SECRET, config=config)
        wattnap("submit", "-", "--wait", config=config, given=SECRET)
        wattnap("submit", "-", "--wait", "--id", "mine", config=config, given=SECRET)
    told = log.read_text()

    assert told.count("done after") == 3
    assert "mine: done after" in told
    # Each was asked and answered; the fake repeats what it is asked.
    assert told.count(SECRET) == (6 if asked_for else 0)


def test_quiet_when_idle(tmp_path: Path) -> None:
    """Who only looks leaves no trace in the log."""
    config = write_config(tmp_path)
    log = tmp_path / "log"
    with daemon(config, log):
        wattnap("ask", "hello", config=config)
        before = log.read_text()
        for _ in range(5):
            assert wattnap("status", config=config).returncode == 0
            assert wattnap("why", config=config).returncode == 0

        assert "done after" in before
        assert log.read_text() == before
