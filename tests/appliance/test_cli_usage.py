"""The command line without a daemon: help, wrong usage, wrong configurations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import Grouped
from tests.appliance.commands import WATTNAP, complaint, daemon, wattnap, write_config

COMMANDS = [name for _, names in Grouped.sections for name in names]


def test_help_imports_nothing_heavy() -> None:
    """`wattnap --help` answers at once also on a small board."""
    heavy = "{'asyncio', 'rich', 'msgspec', 'sqlite_utils', 'aiomqtt', 'sqlite3', 'ctypes'}"
    code = f"import sys, appliance.cli; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_an_example_and_exit_codes(command: str) -> None:
    """What a person looks for there is there."""
    text = wattnap(command, "--help").stdout

    assert f"wattnap {command}" in text.split("\n", 2)[2]
    assert "Exit codes: 0" in text
    assert "\\b" not in text  # click's mark, written so that click does not see it


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"]], ids=" ".join)
def test_the_first_prompt_is_a_home_command(arguments: list[str]) -> None:
    """The model that ships turns those into actions, and answers nothing else."""
    first = wattnap(*arguments).stdout.partition('wattnap ask "')[2]

    assert first.startswith('turn on the light in the kitchen"')


def test_every_command_is_listed() -> None:
    """Help shows each command once, under its heading."""
    text = wattnap("--help").stdout
    listed = [
        line.split()[0] for line in text.splitlines() if line[:2] == "  " and line[2:3].strip()
    ]

    assert [name for name in listed if name in COMMANDS] == COMMANDS
    assert "..." not in text.partition("Serve:")[2]


def test_without_a_daemon(tmp_path: Path) -> None:
    """69, and how to start it."""
    result = wattnap("status", config=write_config(tmp_path))

    assert result.returncode == os.EX_UNAVAILABLE
    assert "wattnap run" in complaint(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dance"], "dance"),
        (["ask"], "TEXT"),
        (["ask", "x", "--max-tokens", "-1"], "max-tokens"),
        (["rest", "deeply"], "deeply"),
        (["config"], "--example"),
        (["demo"], "--engine-python"),
        (["energy", "--by", "moon"], "moon"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    """64, and where to read on."""
    result = wattnap(*arguments)

    assert result.returncode == os.EX_USAGE
    assert words in complaint(result)
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["requests", "--client"],
        ["requests", "--model"],
        ["ask"],
        ["ask", "x", "--model"],
        ["submit", "-", "--id"],
        ["answer"],
        ["cancel"],
        ["cancel", "x", "--client"],
    ],
    ids=" ".join,
)
def test_an_argument_that_is_no_text(arguments: list[str]) -> None:
    """Bytes that are not UTF-8 are wrong usage, before anything is asked."""
    result = wattnap(*arguments, os.fsdecode(b"caf\xe9"))

    assert result.returncode == os.EX_USAGE
    assert r"'caf\udce9' is not UTF-8 text" in complaint(result)


def test_a_file_that_is_nested_too_deep(tmp_path: Path) -> None:
    """65, however deep: it can be read by nobody."""
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    result = wattnap("submit", str(file))

    assert result.returncode == os.EX_DATAERR
    assert str(file) in complaint(result)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["config", "--example"], ["--help"], ["--version"]])
def test_standard_output_that_is_full(arguments: list[str], unbuffered: str) -> None:
    """74, and why, in one line."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*WATTNAP, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
        silent = subprocess.run([*WATTNAP, *arguments], stdout=full, stderr=full, check=False)

    assert result.returncode == silent.returncode == os.EX_IOERR
    assert complaint(result) == "wattnap: cannot write: No space left on device"


def test_without_a_command() -> None:
    """Help, and 64: nothing was done."""
    result = wattnap()

    assert result.returncode == os.EX_USAGE
    assert "Usage: wattnap" in result.stderr


def test_version() -> None:
    """Its name and number, in one line."""
    assert wattnap("--version").stdout.startswith("wattnap ")


def test_config_example_and_check(tmp_path: Path) -> None:
    """What is printed can be used as it is."""
    example = tmp_path / "wattnap.toml"
    example.write_text(wattnap("config", "--example").stdout)
    result = wattnap("config", "--check", str(example))

    assert result.returncode == 0
    assert result.stdout.startswith(f"{example}: keys and values are fine; `wattnap --config ")


@pytest.mark.parametrize(
    "arguments", [["config", "--check"], ["run", "--config"], ["status", "--config"]]
)
def test_a_wrong_configuration(arguments: list[str], tmp_path: Path) -> None:
    """78, and the key."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[power]\nidle_timeout = 5\n")
    result = wattnap(*arguments, str(wrong))

    assert result.returncode == os.EX_CONFIG
    assert "`power.idle_timeout` (did you mean `power.idle_timeout_s`?)" in complaint(result)


def test_run_stops_when_told(tmp_path: Path) -> None:
    """SIGTERM ends it with 0, and the socket is gone."""
    config = write_config(tmp_path)
    with daemon(config, tmp_path / "log") as process:
        found = (tmp_path / "run" / "wattnap.sock").exists()

    assert found
    assert process.returncode == 0
    assert not (tmp_path / "run" / "wattnap.sock").exists()
