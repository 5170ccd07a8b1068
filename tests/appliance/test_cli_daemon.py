"""The command line with daemons of the tests' own: without one, beside one, after one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.commands import (
    complaint,
    configured_daemon,
    daemon,
    printed,
    wattnap,
    write_config,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a daemon that runs while the module's tests do."""
    with configured_daemon(tmp_path_factory.mktemp("cli")) as path:
        yield path


def test_the_log_outlives_the_daemon(tmp_path: Path) -> None:
    """It is read when the daemon is stopped; before its first run there is none."""
    config = write_config(tmp_path)
    before = wattnap("energy", config=config)
    with daemon(config, tmp_path / "log"):
        wattnap("ask", "x", config=config)
    after = printed(wattnap("requests", "--json", config=config))

    assert before.returncode == os.EX_UNAVAILABLE
    assert "no database" in complaint(before)
    assert len(after["requests"]) == 1


def test_the_log_of_another_user(tmp_path: Path) -> None:
    """A clean database can be read where one may not write."""
    config = write_config(tmp_path)
    with daemon(config, tmp_path / "log"):
        wattnap("ask", "x", config=config)
    # Root may write everywhere: what a copy without -wal looks like is the same.
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "wattnap.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (tmp_path / "state").chmod(0o500)
    try:
        after = printed(wattnap("requests", "--json", config=config))
    finally:
        (tmp_path / "state").chmod(0o700)

    assert len(after["requests"]) == 1


def test_nobody_else_reads_prompts(tmp_path: Path) -> None:
    """By hand as by systemd: what the daemon makes is for its user alone, whatever the umask."""
    config = write_config(tmp_path)
    with daemon(config, tmp_path / "log"):
        wattnap("submit", "x", config=config)
        state = tmp_path / "state"
        modes = {path.name: path.stat().st_mode & 0o777 for path in state.iterdir()}

    assert state.stat().st_mode & 0o777 == 0o700
    assert {"wattnap.db", "wattnap.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_folder_for_sockets_that_cannot_be_made(tmp_path: Path) -> None:
    """78, in one line: which folder, and which key names another."""
    (tmp_path / "run").touch()
    config = write_config(tmp_path)
    result = wattnap("run", "--fake", config=config)

    assert result.returncode == os.EX_CONFIG
    assert f"runtime_dir: {tmp_path}/run: File exists; name a folder" in complaint(result)


def test_a_daemon_with_another_configuration(config: Path, tmp_path: Path) -> None:
    """Who asks at the wrong place is told how to name the right one."""
    result = wattnap("status", config=write_config(tmp_path))

    assert result.returncode == os.EX_UNAVAILABLE
    assert "--config FILE, or WATTNAP_CONFIG" in complaint(result)


def test_a_configuration_for_one_command(config: Path, tmp_path: Path) -> None:
    """`--config` may stand before or behind the command, and is stronger than the environment."""
    other = write_config(tmp_path)
    here = wattnap("status", "--config", str(config), config=other)
    before = wattnap("--config", str(config), "status", config=other)

    assert (here.returncode, before.returncode) == (0, 0)


def test_a_second_daemon(config: Path) -> None:
    """75: the first one has the state directory."""
    result = wattnap("run", "--fake", config=config)

    assert result.returncode == os.EX_TEMPFAIL
    assert "is in use by another daemon" in complaint(result)


def test_a_second_daemon_with_a_state_of_its_own(config: Path, tmp_path: Path) -> None:
    """78: the first one has the socket."""
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("/state", "/other-state"))
    result = wattnap("run", "--fake", config=other)

    assert result.returncode == os.EX_CONFIG
    assert "another daemon listens" in result.stderr
