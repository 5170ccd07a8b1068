"""A trial beside a daemon: what it finds out, and that it touches nothing."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.appliance.commands import daemon, wattnap, write_config
from tests.fakes.python_with_vllm import python_that_serves


@pytest.fixture
def place() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


def configured(place: Path, *switches: str) -> Path:
    """With an engine that plays vLLM, and its switches."""
    told = ", ".join(f'"{each}"' for each in ("--log", f"{place}/prompts", *switches))
    return write_config(place, f'[engine]\ndevice = "cpu"\nargs = [{told}]\n')


def content(place: Path) -> list[tuple[object, ...]]:
    """What a trial could have changed."""
    with closing(sqlite3.connect(place / "state/wattnap.db")) as connection:
        tables = ("inbox", "reply_address", "canary", "baked", "ledger_transition")
        return [row for each in tables for row in connection.execute(f"SELECT * FROM {each}")]


def settled(place: Path) -> None:
    """Return when the disk has all that it has been told: that a prompt runs is the last."""
    end_s = time.monotonic() + 20
    while not any("running" in row for row in content(place)):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_beside_a_daemon(place: Path) -> None:
    """It serves: 0. Neither its database nor its prompts are touched; nothing is left."""
    config = configured(place)
    with daemon(config, place / "log"):
        wattnap("submit", "-", config=config, given="endless")
        while "1 running" not in wattnap("status", config=config).stdout:
            pass
        settled(place)
        before = content(place)
        python = python_that_serves(place / "engine", "0.32.0")
        tried = wattnap("trial", "--engine-python", str(python), config=config)

        assert tried.returncode == 0, tried.stderr
        assert "baked" in tried.stderr
        assert content(place) == before
    assert not (place / "prompts").exists()
    assert not (place / "state/trial").exists()


def test_an_engine_that_does_not_work(place: Path) -> None:
    """70, and its own words; also where no daemon has ever run."""
    config = configured(place, "--last-words", "ValueError: unknown quantization")
    python = python_that_serves(place / "engine", "0.32.0")
    tried = wattnap("trial", "--engine-python", str(python), config=config)

    assert tried.returncode == os.EX_SOFTWARE
    assert "unknown quantization" in tried.stderr.splitlines()[-1]
    assert not (place / "state/trial").exists()


def test_no_engine(place: Path) -> None:
    """78: nobody could start it."""
    tried = wattnap("trial", "--engine-python", "/nowhere/python", config=configured(place))

    assert tried.returncode == os.EX_CONFIG
    assert "/nowhere/python is no program" in tried.stderr
