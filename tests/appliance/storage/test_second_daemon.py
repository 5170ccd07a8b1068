"""Two daemons on one state directory: the second one goes away, and has touched nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from appliance.errors import InUse, StorageFailed
from appliance.storage import state_dir
from drivers.fake import FakeEngine
from tests.appliance.commands import daemon, wattnap, write_config


def elsewhere(folder: Path, config: Path) -> Path:
    """The same, with sockets of its own."""
    other = folder / "other.toml"
    other.write_text(config.read_text().replace(f"{folder}/run", f"{folder}/run2"))
    return other


def states(folder: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(folder / "state" / "wattnap.db")) as db:
        return db.execute("SELECT state, attempts FROM inbox").fetchall()


def await_states(folder: Path, wanted: list[tuple[str, int]]) -> None:
    """Return once the requests are there. Nothing tells us what another process does."""
    deadline = time.monotonic() + 15
    while states(folder) != wanted:
        assert time.monotonic() < deadline, states(folder)
        time.sleep(0.05)


def test_a_second_daemon_fails_and_changes_nothing(tmp_path: Path) -> None:
    """It says who is in its way. Once the first one is killed, the next one starts, and goes on."""
    config = write_config(tmp_path)
    other = elsewhere(tmp_path, config)
    with daemon(config, tmp_path / "log") as first:
        wattnap("submit", "-", config=config, given=FakeEngine.ENDLESS)
        await_states(tmp_path, [("running", 1)])
        second = wattnap("run", "--fake", config=other)

        assert second.returncode == os.EX_TEMPFAIL
        assert second.stderr.splitlines()[-1] == (
            f"wattnap: state_dir: {tmp_path}/state is in use by another daemon, process"
            f" {first.pid}; stop that one first, or give this one a state_dir of its own"
        )
        assert states(tmp_path) == [("running", 1)]
        assert not (tmp_path / "run2").exists()
        first.send_signal(signal.SIGKILL)
        first.wait()
    with daemon(other, tmp_path / "log2"):
        await_states(tmp_path, [("running", 2)])


def test_a_child_that_outlives_the_daemon_does_not_hold_it(tmp_path: Path) -> None:
    """The lock ends with the context even if children have been started within it."""
    with state_dir.held(tmp_path / "state"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with state_dir.held(tmp_path / "state"):
            pass
    finally:
        child.kill()
        child.wait()


def test_whoever_cannot_say_who_it_is_holds_it_all_the_same(tmp_path: Path) -> None:
    """On a full disk its number is not there."""
    with state_dir.held(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(InUse, match="in use by another daemon; stop"), state_dir.held(tmp_path):
            pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """It says which, and why."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageFailed, match="file/state: Not a directory"),
        state_dir.held(tmp_path / "file" / "state"),
    ):
        pass
