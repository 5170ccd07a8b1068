"""`wattnap demo` as a user runs it: to its end, broken, and interrupted at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.appliance.commands import WATTNAP

MARK = "WATTNAP_TEST_DEMO"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """TMPDIR of the demo: short, for it holds sockets."""
    folder = Path(tempfile.mkdtemp(prefix="wn"))
    yield folder
    shutil.rmtree(folder)


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo, in an environment that marks all its descendants."""
    return subprocess.Popen(
        [*WATTNAP, "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary), MARK: str(temporary)},
    )


def result(process: subprocess.Popen[str], timeout_s: float = 60) -> dict[str, Any]:  # JSON
    """The last line on stdout, which is the only one."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    assert stdout.count("\n") == 1, stderr
    return json.loads(stdout)  # type: ignore[no-any-return]


def left_behind(temporary: Path) -> list[str]:
    """What still runs of a demo, and what still lies in its temporary folder."""
    found = [str(path) for path in temporary.iterdir()]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if process.environ().get(MARK) == str(temporary):
                found.append(" ".join(process.cmdline()) or process.name())
    return found


def test_the_whole_demo(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """Three answers, two wakes, two rests, the bill, and nothing left but the ledger."""
    process = start(
        temporary, "--fake", "--mosquitto", mosquitto, "--cache", str(tmp_path), "--json"
    )
    told = result(process)

    assert process.returncode == 0
    assert told["ok"] is True
    assert [answer["id"] for answer in told["answers"]] == ["first", "second", "third"]
    assert told["answers"][1]["wake_s"] == 0
    assert all(told["answers"][n]["wake_s"] > 0 for n in (0, 2))
    assert all(answer["ttft_s"] > 0 and answer["energy_j"] > 0 for answer in told["answers"])
    assert {answer["energy_source"] for answer in told["answers"]} == {"estimate"}
    assert (told["wakes"], told["rests"]) == (2, 2)
    assert {"awake", "off"} <= set(told["energy_j_by_depth"])
    with contextlib.closing(sqlite3.connect(told["ledger"])) as ledger:
        assert ledger.execute("SELECT count(*) FROM requests").fetchone() == (3,)
    assert left_behind(temporary) == []


def test_for_people(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """The story goes to stdout, names what is an estimate, and --keep keeps the files."""
    kept = tmp_path / "kept"
    process = start(
        temporary, "--fake", "--mosquitto", mosquitto, "--cache", str(tmp_path), "--keep", str(kept)
    )
    story, errors = process.communicate(timeout=60)

    assert errors == ""
    assert "publish wattnap/demo/request/main/first" in story
    assert "dim the bedroom lamp to thirty percent" in story.split("waking", 1)[1]
    assert "no meter has measured it" in story
    assert "share of the wake, J" in story
    assert "was a first guess" in story
    assert story.splitlines()[-1].strip() == "sudo ./install.sh install"
    assert str(kept / "state" / "wattnap.db") in story.replace("\n", "")
    assert (kept / "daemon.log").exists()
    assert left_behind(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moment",
    ["A broker", "mosquitto on", "daemon starts", "publish", "waking", "Nobody asks"],
)
def test_interrupted(
    moment: str, number: signal.Signals, mosquitto: str, temporary: Path, tmp_path: Path
) -> None:
    """Whenever it comes, everything is stopped and the temporary folder is gone."""
    process = start(
        temporary, "--fake", "--mosquitto", mosquitto, "--cache", str(tmp_path), "--json"
    )
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(number)
    process.send_signal(number)  # an impatient user's second one changes nothing
    told = result(process)

    assert (process.returncode, told["error"]) == (130, "interrupted")
    assert told["ok"] is False
    assert left_behind(temporary) == []


def test_interrupted_at_the_end(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """While it stops by itself, it may come too late to matter, and breaks nothing off."""
    process = start(temporary, "--fake", "--mosquitto", mosquitto, "--cache", str(tmp_path))
    assert process.stdout is not None
    for line in process.stdout:
        if "stopping the daemon" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode in {0, 130}
    assert left_behind(temporary) == []


def test_killed(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """Even a SIGKILL of the demo leaves no process: the kernel tells its children."""
    process = start(temporary, "--fake", "--mosquitto", mosquitto, "--cache", str(tmp_path))
    assert process.stdout is not None
    for line in process.stdout:
        if "publish" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    process.communicate(timeout=10)

    assert len(children) == 2
    assert alive == []


@pytest.mark.parametrize(
    ("program", "words"),
    [("/nonexistent/mosquitto", "No such file"), ("/bin/false", "ended with status 1")],
)
def test_a_broker_that_does_not_start(
    program: str, words: str, temporary: Path, tmp_path: Path
) -> None:
    """The result says so; nothing is left."""
    process = start(temporary, "--fake", "--mosquitto", program, "--cache", str(tmp_path), "--json")
    told = result(process)

    assert process.returncode == os.EX_SOFTWARE
    assert told["ok"] is False
    assert words in told["error"]
    assert left_behind(temporary) == []


def test_a_folder_that_has_files(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """78, before anything starts: the demo's files are not strewn among others."""
    (tmp_path / "notes.txt").touch()
    process = start(temporary, "--fake", "--mosquitto", mosquitto, "--keep", str(tmp_path))
    story, _ = process.communicate(timeout=60)

    assert process.returncode == os.EX_CONFIG
    assert "it is not empty, notes.txt is in it" in " ".join(story.split())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert left_behind(temporary) == []


@pytest.mark.parametrize(("name", "words"), [("nowhere", "no such folder"), ("", "no config.json")])
def test_a_model_that_is_none(
    name: str, words: str, mosquitto: str, temporary: Path, tmp_path: Path
) -> None:
    """78, before anything starts, in one line."""
    process = start(
        temporary, "--engine-python", "/bin/false", "--mosquitto", mosquitto,
        "--cache", str(tmp_path), "--model", str(tmp_path / name),
    )  # fmt: skip
    story, _ = process.communicate(timeout=60)
    (line,) = " ".join(story.split()).splitlines()

    assert process.returncode == os.EX_CONFIG
    assert line.startswith(f"It did not work: --model {tmp_path / name}")
    assert words in line
    assert left_behind(temporary) == []


def test_an_engine_that_does_not_start(mosquitto: str, temporary: Path, tmp_path: Path) -> None:
    """The result carries the reason, and people see the daemon's last words."""
    process = start(
        temporary, "--engine-python", "/bin/false", "--mosquitto", mosquitto,
        "--cache", str(tmp_path), "--json",
    )  # fmt: skip
    told = result(process)

    assert process.returncode != 0
    assert told["ok"] is False
    assert told["error"]
    assert left_behind(temporary) == []


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_with_a_real_engine(
    mosquitto: str, engine_python: str, temporary: Path, tmp_path: Path
) -> None:
    """The same three prompts on a real vLLM, whose processes are gone at the end."""
    cache = os.environ.get("WATTNAP_TEST_CACHE") or str(tmp_path)
    process = start(
        temporary, "--engine-python", engine_python, "--mosquitto", mosquitto,
        "--cache", cache, "--keep", str(tmp_path / "kept"), "--json",
    )  # fmt: skip
    told = result(process, timeout_s=580)

    assert told["ok"] is True, told
    assert all(answer["text"] for answer in told["answers"])
    assert (told["wakes"], told["rests"]) == (2, 2)
    assert told["engine"]["version"]
    assert len(told["engine"]["pids"]) >= 2
    assert not any(psutil.pid_exists(pid) for pid in told["engine"]["pids"])
    assert left_behind(temporary) == []


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize("after_s", [1.0, 6.0, 14.0])
def test_interrupted_while_a_real_engine_starts(
    after_s: float, mosquitto: str, engine_python: str, temporary: Path, tmp_path: Path
) -> None:
    """In the middle of its imports, too."""
    process = start(
        temporary, "--engine-python", engine_python, "--mosquitto", mosquitto,
        "--cache", os.environ.get("WATTNAP_TEST_CACHE") or str(tmp_path), "--json",
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "waking" in line:
            break
    time.sleep(after_s)  # nothing tells how far an import is
    process.send_signal(signal.SIGINT)
    told = result(process, timeout_s=100)

    assert told["error"] == "interrupted"
    assert left_behind(temporary) == []
