"""`wattnap energy`, `savings`, `requests`, `wakes`: what people and programs get of a ledger.

The tables that are to be seen are in tests/fixtures/energy; `python -m
tests.appliance.reports.test_energy_command` writes them anew.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.appliance.commands import wattnap
from tests.appliance.ledgers import BERLIN
from tests.appliance.reports.some_week import WEEK, as_csv, as_json, make, on_a_terminal, told

GOLDEN = Path(__file__).parents[2] / "fixtures" / "energy"


SHOWN = {
    "by_day": ("energy", *WEEK),
    "by_hour": (
        "energy", "--by", "hour", "--since", "2026-03-04T10:00", "--until", "2026-03-04T14:00",
    ),
    "by_hour_october": (
        "energy", "--by", "hour", "--since", "2026-10-25", "--until", "2026-10-25T05:00",
    ),
    "by_depth": ("energy", "--by", "depth", *WEEK),
    "by_line": ("energy", "--by", "line", *WEEK),
    "by_model": ("energy", "--by", "model", *WEEK),
    "by_client": ("energy", "--by", "client", *WEEK),
    "savings": ("savings", *WEEK),
    "requests": ("requests", "--until", "2026-03-09"),
    "wakes": ("wakes", "--limit", "3", "--until", "2026-03-09"),
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("week"))


@pytest.mark.parametrize("name", SHOWN)
def test_what_people_see(config: Path, name: str) -> None:
    """Word for word."""
    result = told(config, *SHOWN[name])

    assert result.stdout == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", ["by_day", "by_client", "savings"])
def test_on_a_narrow_terminal(config: Path, name: str) -> None:
    """No line is broken, and what matters most is there."""
    for columns in (80, 40, 30):
        lines = on_a_terminal(config, *SHOWN[name], columns=columns, NO_COLOR="1").splitlines()
        table = lines[2 : lines.index("", 2)] if "" in lines[2:] else lines[2:]

        below = lines[2 + len(table) :]
        sentences = [line for line in below if not line.startswith("░")]  # the legend's signs
        assert max(map(len, [*table, *sentences])) <= columns
        assert "total" in "".join(table)


def test_colours_are_for_terminals(config: Path) -> None:
    """Nowhere else, and not there either for who does not want them."""
    coloured = on_a_terminal(config, *SHOWN["by_day"], columns=120)
    plain = [
        on_a_terminal(config, *SHOWN["by_day"], columns=120, NO_COLOR="1"),
        on_a_terminal(config, *SHOWN["by_day"], columns=120, TERM="dumb"),
        told(config, *SHOWN["by_day"]).stdout,
    ]

    assert "\x1b[32m░" in coloured
    assert not any("\x1b" in text for text in plain)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "ascii", "latin-1", "only its output"],
)
def test_without_unicode(config: Path, environment: dict[str, str]) -> None:
    """Signs instead of blocks, and a question mark for what it has no letter for."""
    for name in ("by_day", "by_client", "requests"):
        assert told(config, *SHOWN[name], **environment).stdout.isascii()
    legend = told(config, *SHOWN["by_day"], **environment).stdout.splitlines()[-1]

    assert legend.startswith(". resting   - awake, idle   + waking")


def test_what_a_client_calls_itself_moves_no_cursor(config: Path) -> None:
    """A name is on one line, and is no colour; programs get it as it is."""
    people = told(config, "requests", "--until", "2026-03-09").stdout
    (row,) = as_json(config, "requests", "--model", "日本語")["requests"]

    assert "k?[31mitchen?" in people
    assert row["client"] == "k\x1b[31mitchen\n"


@pytest.mark.parametrize("by", ["hour", "day", "depth", "line", "model", "client"])
def test_programs_get_the_same_three_times(config: Path, by: str) -> None:
    """JSON and CSV have the same rows and columns; an empty cell is null."""
    arguments = ("energy", "--by", by, *WEEK)
    found, table = as_json(config, *arguments), as_csv(config, *arguments)

    assert found["by"] == by
    assert (found["since"], found["until"]) == (
        "2026-03-01T23:00:00.000Z",
        "2026-03-08T23:00:00.000Z",
    )
    assert [list(row) for row in table] == [list(row) for row in found["energy"]]
    for line, row in zip(table, found["energy"], strict=True):
        assert {k: "" if v is None else str(v) for k, v in row.items()} == line
    assert found["total"].keys() <= found["energy"][0].keys()


def test_rows_of_requests_and_wakes(config: Path) -> None:
    """As the views have them; and whether there are more."""
    requests = as_json(config, "requests", "--limit", "2", "--until", "2026-03-09")
    wakes = as_json(
        config, "wakes", "--limit", "100", "--since", "2026-03-08", "--until", "2026-03-09"
    )
    table = as_csv(config, "requests", "--since", "2026-03-05T12:00", "--until", "2026-03-05T12:02")

    assert [row["id"] for row in requests["requests"]] == ["r-4", "r-3"]
    assert (requests["more"], wakes["more"]) == (True, False)
    assert len(wakes["wakes"]) == 14
    assert [(row["id"], row["marginal_j"]) for row in table] == [
        ("r-3", ""),
        ("r-2", "90.0"),
        ("r-1", "90.0"),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--state", "refused"], ["r-3"]),
        (["--client", "uid:1000"], ["r-3", "r-2", "r-1"]),
        (["--model", "main"], ["r-2", "r-1"]),
        (["--model", "main", "--client", "nobody"], []),
    ],
)
def test_requests_of_one_kind(config: Path, arguments: list[str], expected: list[str]) -> None:
    """By state, client and model."""
    found = as_json(config, "requests", *arguments)["requests"]

    assert [row["id"] for row in found] == expected


def test_when(config: Path) -> None:
    """A date is its first moment, local time; without any, it is the last days."""
    march = as_json(config, "energy", "--since", "2026-03-03", "--until", "2026-03-05T00:00+01:00")
    usual = as_json(config, "energy")
    before = as_json(config, "savings", "--until", "2026-03-03")

    assert [row["day"] for row in march["energy"]] == ["2026-03-03", "2026-03-04"]
    assert usual["since"].endswith(("T22:00:00.000Z", "T23:00:00.000Z"))
    assert usual["until"] is None
    assert [row["day"] for row in before["savings"]] == ["2026-03-02"]


@pytest.mark.parametrize("command", ["energy", "savings", "requests", "wakes"])
def test_an_end_before_the_beginning(config: Path, command: str) -> None:
    """64, with both."""
    result = wattnap(
        command, "--since", "2026-03-05", "--until", "2026-03-04T23:00", config=config, TZ=BERLIN
    )

    assert result.returncode == os.EX_USAGE
    assert "2026-03-05 00:00 is not before --until 2026-03-04 23:00" in result.stderr


@pytest.mark.parametrize("command", ["energy", "savings", "requests", "wakes"])
def test_nothing_in_that_time(config: Path, command: str) -> None:
    """Is said on stderr to people; programs get no rows."""
    long_ago = ("--since", "1999-01-01", "--until", "1999-02-01")
    people = told(config, command, *long_ago)

    assert people.stdout == ""
    assert len(people.stderr.splitlines()) == 1
    assert as_json(config, command, *long_ago)[command] == []
    assert len(told(config, command, *long_ago, "--csv").stdout.splitlines()) == 1


def write(sql: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.executescript(sql)

    return change


def overwrite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ledger_energy'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x5a" * 4096)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Path.unlink, "no database at"),
        (lambda path: path.write_bytes(b""), "is no database of wattnap"),
        (lambda path: path.write_bytes(b"not a database, but some text" * 200), "damaged"),
        (overwrite, "damaged"),
        (
            write("INSERT INTO _sqlite_migrations VALUES (99, 'wattnap', '9999_new', '')"),
            "written by a newer wattnap (it knows 9999_new)",
        ),
        (
            write("DELETE FROM _sqlite_migrations WHERE name > '0007'"),
            "written by an older wattnap (it lacks 0007_attribution)",
        ),
        (write("DROP TABLE _sqlite_migrations"), "is no database of wattnap"),
    ],
    ids=["absent", "empty", "text", "torn", "newer", "older", "foreign"],
)
def test_a_database_that_cannot_be_read(
    tmp_path: Path, harm: Callable[[Path], object], words: str
) -> None:
    """69, in a line that says what it is; it is left as it was."""
    config = make(tmp_path)
    path = tmp_path / "wattnap.db"
    harm(path)
    before = path.read_bytes() if path.exists() else None
    result = wattnap("energy", "--since", "2026-03-02", config=config)

    assert result.returncode == os.EX_UNAVAILABLE
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    """By a program that lets nobody else read: 69, and that it is that."""
    config = make(tmp_path)
    with closing(sqlite3.connect(tmp_path / "wattnap.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        result = wattnap("energy", config=config)

    assert result.returncode == os.EX_UNAVAILABLE
    assert "another program has locked it" in result.stderr


@pytest.mark.parametrize(
    ("by", "kind"),
    [("day", "png"), ("hour", "png"), ("depth", "svg"), ("client", "png"), ("savings", "pdf")],
)
def test_a_picture(config: Path, tmp_path: Path, by: str, kind: str) -> None:
    """Is drawn beside the table, and nothing is said of fonts."""
    command = ["savings"] if by == "savings" else ["energy", "--by", by]
    file = tmp_path / f"x.{kind}"
    result = told(config, *command, *WEEK, "--plot", str(file))

    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])
    assert "total" in result.stdout
    assert result.stderr.count("\n") <= 1


def test_a_picture_of_the_same(config: Path, tmp_path: Path) -> None:
    """The same data make the same file."""
    for name in ("one.svg", "other.svg"):
        told(config, "energy", *WEEK, "--plot", str(tmp_path / name))

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_a_picture_without_matplotlib(config: Path, tmp_path: Path) -> None:
    """69, and the command that gets it."""
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named it')")
    result = wattnap(
        "energy", *WEEK, "--plot", str(tmp_path / "x.png"), config=config,
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip

    assert result.returncode == os.EX_UNAVAILABLE
    assert "wattnap[plot]" in result.stderr
    assert f"{sys.executable} -m pip install 'matplotlib" in result.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("file", "status", "words"),
    [
        ("x.jpeg", os.EX_USAGE, ".png, .svg, .pdf"),
        ("nowhere/x.png", os.EX_NOINPUT, "No such file"),
    ],
)
def test_a_picture_that_cannot_be(
    config: Path, tmp_path: Path, file: str, status: int, words: str
) -> None:
    """Another kind of file, or no place for it."""
    result = wattnap("energy", *WEEK, "--plot", str(tmp_path / file), config=config)

    assert result.returncode == status
    assert words in result.stderr


def test_the_log_imports_nothing_heavy(config: Path) -> None:
    """The answer is there at once, also on a small board."""
    code = (
        "import sys; from appliance.cli import main; main(['energy', '--since', '2026-01-01']);"
        "print(sorted({'asyncio', 'rich', 'sqlite_utils', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"WATTNAP_CONFIG": str(config)},
    )  # fmt: skip

    assert found.stdout.splitlines()[-1] == "[]"


if __name__ == "__main__":
    week = make(Path(mkdtemp()))
    for shown, given in SHOWN.items():
        (GOLDEN / f"{shown}.txt").write_text(told(week, *given).stdout)
