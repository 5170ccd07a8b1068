"""install.sh refuses clearly, and stops when it is told to. What it installs, CI uses."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

CLONE = Path(__file__).parent.parent.parent

VENV_THAT_TAKES_LONG = """
import subprocess

if __name__ == "__main__":
    child = subprocess.Popen(["sleep", "300"])
    with open("{started}", "w") as told:
        told.write(str(child.pid))
    child.wait()
"""


def install(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CLONE / "install.sh", *arguments],
        env=surroundings(home, **environment),
        capture_output=True,
        text=True,
        check=False,
    )


def surroundings(home: Path, **environment: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if "WATTNAP" not in name}
    return inherited | {"WATTNAP_HOME": str(home), "WATTNAP_PYTHON": sys.executable, **environment}


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def left_in(home: Path) -> list[str]:
    """Commands of processes that have to do with `home`."""
    commands = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(command) for command in commands if str(home) in " ".join(command)]


def gone(pid: int) -> bool:
    """Whether a process has ended, or does at once; init may have yet to bury it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], 5)
    os.close(process)
    return bool(ended)


def test_shellcheck_has_nothing_to_say() -> None:
    """Of install.sh and all that it reads: they are run as root. Skips aloud without it."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        lacking = "needs shellcheck: apt-get install shellcheck"
        (pytest.fail if os.environ.get("WATTNAP_TEST_REQUIRE") == "all" else pytest.skip)(lacking)
    scripts = ["install.sh", *map(str, sorted((CLONE / "systemd").glob("*.sh")))]
    ran = subprocess.run(
        [shellcheck, "--external-sources", *scripts],
        cwd=CLONE,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "")


def test_help_tells_both_commands(tmp_path: Path) -> None:
    """It exits well and touches nothing."""
    for arguments in (["--help"], ["demo", "--help"]):
        ran = install(tmp_path / "home", *arguments)

        assert ran.returncode == 0
        assert "install.sh demo [--json]" in ran.stdout
        assert "install.sh test" in ran.stdout
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [[], ["instal"], ["demo2"]])
def test_anything_else_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    """With the usage, on stderr."""
    ran = install(tmp_path / "home", *arguments)

    assert (ran.returncode, ran.stdout) == (64, "")
    assert "usage:" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["install", "--model"], "--model needs a value"),
        (["upgrade", "--broker=none"], "upgrade does not know --broker"),
        (["rollback", "now"], "rollback does not know now"),
        (["uninstall", "--purge", "--model", "x"], "uninstall does not know --model"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Before anything of the machine is touched, whoever asks."""
    ran = install(tmp_path / "home", *arguments)

    assert (ran.returncode, ran.stdout) == (64, "")
    assert words in ran.stderr


def test_a_machine_without_systemd_is_refused(tmp_path: Path) -> None:
    """Nothing can be installed as a service there."""
    if os.geteuid() != 0 or Path("/run/systemd/system").exists():
        pytest.skip("for root of a machine without systemd")
    ran = install(tmp_path / "home", "install")

    assert ran.returncode == 69
    assert "not booted with systemd" in ran.stderr
    assert not Path("/opt/wattnap").exists()


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    """It says which one it found."""
    script = 'case "$*" in "-c ") ;; -V) echo Python 3.9.2 ;; *) exit 1 ;; esac'
    old = program(tmp_path / "python-old", script)

    ran = install(tmp_path, "demo", WATTNAP_PYTHON=old)

    assert ran.returncode == 69
    assert "Python 3.11 or newer is needed" in ran.stderr
    assert "is Python 3.9.2" in ran.stderr


def test_a_python_without_venv_is_refused(tmp_path: Path) -> None:
    """Debian ships that module apart: its package is named."""
    script = f'case "$*" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"'
    bare = program(tmp_path / "python-bare", script)

    ran = install(tmp_path, "demo", WATTNAP_PYTHON=bare)

    assert ran.returncode == 69
    assert "apt-get install python3." in ran.stderr


def test_an_unknown_engine_is_refused_at_once(tmp_path: Path) -> None:
    """Before anything is installed, with the names there are."""
    ran = install(tmp_path, "demo", WATTNAP_ENGINE="cuda")

    assert ran.returncode == 69
    assert "there are cpu-x86_64" in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_an_engine_of_ones_own_must_be_one(tmp_path: Path) -> None:
    """A Python without vLLM is refused."""
    ran = install(tmp_path, "demo", WATTNAP_ENGINE_PYTHON=sys.executable)

    assert ran.returncode == 69
    assert "has no vLLM" in ran.stderr


def test_a_full_disk_is_refused_at_once(tmp_path: Path) -> None:
    """It says how much is needed, how much there is, and how to go elsewhere."""
    program(tmp_path / "df", "echo head; echo dev 1 1 2048000 1% /")

    ran = install(tmp_path, "demo", PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert ran.returncode == 73
    assert "MiB free" in ran.stderr
    assert "there are 2000." in ran.stderr
    assert "Set WATTNAP_HOME" in ran.stderr


def test_a_broker_of_ones_own_must_be_one(tmp_path: Path) -> None:
    """Any other program is refused before anything is installed."""
    program(tmp_path / "df", "echo head; echo dev 1 1 99999999 1% /")

    ran = install(
        tmp_path,
        "demo",
        WATTNAP_MOSQUITTO="/bin/true",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )

    assert ran.returncode == 69
    assert "/bin/true is no Mosquitto" in ran.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_with_all_it_started(tmp_path: Path, mosquitto: str, how: signal.Signals) -> None:
    """Told to stop in the middle of a step, it leaves no process, and no stamp on the half."""
    program(tmp_path / "df", "echo head; echo dev 1 1 99999999 1% /")
    (tmp_path / "venv").mkdir()  # without a stamp: what an earlier run did not finish
    started = tmp_path / "started"
    os.mkfifo(started)
    (tmp_path / "venv.py").write_text(VENV_THAT_TAKES_LONG.format(started=started))
    surrounded = surroundings(
        tmp_path,
        WATTNAP_MOSQUITTO=mosquitto,
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        PYTHONPATH=str(tmp_path),
    )

    with subprocess.Popen(
        [CLONE / "install.sh", "demo"], env=surrounded, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        grandchild = int(started.read_text())
        running.send_signal(how)
        said = running.stderr.read()

    assert running.returncode == 130
    assert b"install.sh: stopped" in said
    assert left_in(tmp_path) == []
    assert gone(grandchild)
    assert not (tmp_path / "venv/.stamp").exists()
