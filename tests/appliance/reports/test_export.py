"""`wattnap ledger export`: every row once, in order, beside a daemon that writes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance.clock import iso
from appliance.reports.export import INSTANTS, TABLES, names, pieces
from appliance.reports.wall import Span
from appliance.storage.reading import opened
from appliance.storage.store import open_database
from tests.appliance.commands import WATTNAP, wattnap
from tests.appliance.ledgers import Ledger, a_week, ledger

START = datetime.fromisoformat("2026-03-02T00:00:00Z")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    with ledger(tmp_path / "wattnap.db") as made:
        a_week(made)
        made.requests("2026-03-02T00:00:00.000Z", span="day", client='say "hi", you')
        many(made, 10)
    path = tmp_path / "wattnap.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n')
    return path


def many(made: Ledger, count: int, *, first: int = 0, each: int = 1) -> None:
    """So many requests, a second apart; `each` of them at one instant."""
    for number in range(first, first + count):
        at = iso(START + timedelta(seconds=number // each))
        made.request(f"r-{number}", at, marginal_j=None if number % 2 else 1.5)


@pytest.mark.parametrize("table", TABLES)
def test_every_row_in_both_forms(config: Path, table: str) -> None:
    """CSV and JSON lines hold the same, and as much as the database does."""
    lines = wattnap("ledger", "export", table, "--format", "jsonl", config=config).stdout
    text = wattnap("ledger", "export", table, config=config).stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    cells = list(csv.reader(io.StringIO(text)))
    with opened(config.parent / "wattnap.db") as database:
        (count,) = database.execute(f"SELECT count(*) FROM {TABLES[table].source}").fetchone()
        expected = names(database, TABLES[table])

    assert cells[0] == expected
    assert len(rows) == len(cells) - 1 == count
    for row, line in zip(rows, cells[1:], strict=True):
        assert ["" if value is None else str(value) for value in row.values()] == line
    assert rows == sorted(rows, key=lambda row: row[TABLES[table].at])


def test_of_some_time(config: Path) -> None:
    """From the beginning up to the end, which is not in it."""
    arguments = ("--since", "2026-03-02T00:00:03+00:00", "--until", "2026-03-02T00:00:05+00:00")
    result = wattnap("ledger", "export", *arguments, config=config)
    backwards = wattnap("ledger", "export", "--since", "1h", "--until", "2h", config=config)

    assert [line[:3] for line in result.stdout.splitlines()[1:]] == ["r-3", "r-4"]
    assert backwards.returncode == os.EX_USAGE


def test_more_than_a_piece(tmp_path: Path) -> None:
    """Rows of one instant stay together, and none is left out or comes twice."""
    count = 2 * INSTANTS + 7
    with ledger(tmp_path / "wattnap.db") as made:
        many(made, 3 * count, each=3)
    with opened(tmp_path / "wattnap.db") as database:
        found = list(pieces(database, TABLES["requests"], Span()))

    assert [len(piece) for piece in found] == [3 * INSTANTS, 3 * INSTANTS, 21]
    assert [row[0] for piece in found for row in piece] == [f"r-{i}" for i in range(3 * count)]


def test_beside_a_daemon_that_writes(tmp_path: Path) -> None:
    """Between two pieces nothing is held: the -wal file can be emptied, and new rows come, too."""
    path = tmp_path / "wattnap.db"
    with ledger(path) as made:
        many(made, INSTANTS + 1)
    with opened(path) as reader, closing(open_database(path)) as daemon:
        exported = pieces(reader, TABLES["requests"], Span())
        seen = [row[0] for row in next(exported)]
        many(Ledger(daemon), 5, first=INSTANTS + 1)
        blocked, _, left = daemon.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        seen += [row[0] for piece in exported for row in piece]

    assert (blocked, left) == (0, 0)
    assert seen == [f"r-{i}" for i in range(INSTANTS + 6)]


def test_into_a_file(config: Path, tmp_path: Path) -> None:
    """Its form is that of its name; an older one is replaced by a whole one."""
    file = tmp_path / "x.jsonl"
    file.write_text("older")
    result = wattnap("ledger", "export", "wakes", "-o", str(file), config=config)

    assert (result.returncode, result.stdout) == (0, "")
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 98
    assert list(tmp_path.glob("*.part")) == []


def test_into_the_file_that_a_link_leads_to(config: Path, tmp_path: Path) -> None:
    """The link stays one, also if it led nowhere; what it leads to is replaced."""
    (tmp_path / "far").mkdir()
    for name in ("old.csv", "new.csv"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    (tmp_path / "far" / "old.csv").write_text("older")
    written = wattnap("ledger", "export", config=config).stdout
    for name in ("old.csv", "new.csv"):
        result = wattnap("ledger", "export", "-o", str(tmp_path / name), config=config)

        assert (result.returncode, result.stderr) == (0, "")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == written
    assert list(tmp_path.rglob("*.part")) == []


def test_into_a_pipe(config: Path, tmp_path: Path) -> None:
    """What is no file takes the rows itself and stays what it is, also behind a link."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    written = wattnap("ledger", "export", "meters", config=config).stdout
    for file in (pipe, link):
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(reader) as read:
            result = wattnap("ledger", "export", "meters", "-o", str(file), config=config)

            assert (result.returncode, read.read()) == (0, written)
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_a_file_that_cannot_be_written(config: Path, tmp_path: Path) -> None:
    """66 and why; of standard output, on a full disk, 74."""
    nowhere = wattnap("ledger", "export", "-o", str(tmp_path / "no" / "x.csv"), config=config)
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*WATTNAP, "--config", str(config), "ledger", "export"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

    assert (nowhere.returncode, result.returncode) == (os.EX_NOINPUT, os.EX_IOERR)
    assert "No such file" in nowhere.stderr
    assert "No space left" in result.stderr


def test_interrupted(tmp_path: Path) -> None:
    """130, and the file is as it was."""
    with ledger(tmp_path / "wattnap.db") as made:
        many(made, 200_000, each=100)
    config, file = tmp_path / "wattnap.toml", tmp_path / "x.csv"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    file.write_text("older")
    with subprocess.Popen(
        [*WATTNAP, "--config", str(config), "ledger", "export", "-o", str(file)]
    ) as process:
        while not (tmp_path / "x.csv.part").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        status = process.wait(20)

    assert status == 130
    assert file.read_text() == "older"
    assert list(tmp_path.glob("*.part")) == []


def test_a_reader_of_the_file_is_no_writer(config: Path) -> None:
    """An export leaves the database as it found it."""
    path = config.parent / "wattnap.db"
    before = path.read_bytes()
    wattnap("ledger", "export", "energy", config=config)
    with closing(sqlite3.connect(path)) as database:
        (checked,) = database.execute("PRAGMA integrity_check").fetchone()

    assert checked == "ok"
    assert path.read_bytes() == before


def test_backup(config: Path, tmp_path: Path) -> None:
    """All of it, for its owner alone, and a database of its own; nothing is overwritten."""
    file = tmp_path / "copies" / "backup.db"
    nowhere = wattnap("ledger", "backup", str(file), config=config)
    file.parent.mkdir()
    made = wattnap("ledger", "backup", str(file), config=config)
    again = wattnap("ledger", "backup", str(file), config=config)

    assert nowhere.returncode == again.returncode == os.EX_NOINPUT
    assert "No such file or directory" in nowhere.stderr
    assert "already" in again.stderr
    assert made.returncode == 0, made.stderr
    assert [path.name for path in file.parent.iterdir()] == ["backup.db"]
    assert file.stat().st_mode & 0o777 == 0o600
    with opened(tmp_path / "wattnap.db") as here, opened(file) as there:
        tables = [
            name for (name,) in here.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        for table in tables:
            count = f"SELECT count(*) FROM {table}"
            assert here.execute(count).fetchone() == there.execute(count).fetchone()
        assert "ledger_request" in tables


def test_backup_where_a_link_leads(config: Path, tmp_path: Path) -> None:
    """The link stays one; and what it leads to is not overwritten."""
    link, far = tmp_path / "latest.db", tmp_path / "far.db"
    link.symlink_to(far)
    made = wattnap("ledger", "backup", str(link), config=config)
    again = wattnap("ledger", "backup", str(link), config=config)

    assert (made.returncode, again.returncode) == (0, os.EX_NOINPUT)
    assert link.is_symlink()
    with opened(far) as copied:
        assert copied.execute("SELECT count(*) FROM ledger_request").fetchone() > (0,)
