"""The command line, run as a user runs it, against a daemon with an engine in memory."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.appliance.commands import (
    WATTNAP,
    complaint,
    configured_daemon,
    printed,
    wattnap,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a daemon that runs while the module's tests do."""
    with configured_daemon(tmp_path_factory.mktemp("cli")) as path:
        yield path


def test_ask_prints_the_answer(config: Path) -> None:
    """Text to stdout and nothing else; on a pipe there is no progress."""
    result = wattnap("ask", "hello wide world", config=config)

    assert (result.stdout, result.stderr, result.returncode) == ("hello wide world\n", "", 0)


def test_ask_reads_standard_input(config: Path) -> None:
    """`-` stands for it, and limits are passed on."""
    result = wattnap("ask", "-", "--max-tokens", "2", config=config, given="one two three")

    assert result.stdout == "one two\n"


def test_ask_json(config: Path) -> None:
    """One line, with the energy and where it is from."""
    answer = printed(wattnap("ask", "x y", "--json", config=config))

    assert answer["text"] == "x y"
    assert answer["energy"]["source"] == "estimate"
    assert answer["timing"]["total_s"] > 0


def test_ask_an_unknown_model(config: Path) -> None:
    """The sender must change it: 65, and what would be right."""
    result = wattnap("ask", "x", "--model", "other", config=config)

    assert result.returncode == os.EX_DATAERR
    assert "known: main" in complaint(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", ""], 'prompt: expected text that is not empty, got ""'),
        (["submit", "-", "--id", "a b"], "id: expected 1 to 128 of the characters"),
    ],
)
def test_what_the_daemon_refuses(arguments: list[str], words: str, config: Path) -> None:
    """65, in words for whoever typed it."""
    result = wattnap(*arguments, config=config, given="x")

    assert result.returncode == os.EX_DATAERR
    assert words in complaint(result)


@pytest.mark.parametrize("arguments", [["ask", "日本 x"], ["submit", "-", "--wait"]], ids=" ".join)
def test_an_answer_that_the_output_cannot_show(config: Path, arguments: list[str]) -> None:
    """A question mark for each letter that has no place there; the rest is not lost."""
    rich = wattnap(*arguments, config=config, given="日本 x", PYTHONIOENCODING="utf-8:strict")
    poor = wattnap(*arguments, config=config, given="日本 x", PYTHONIOENCODING="latin-1:strict")

    assert rich.stdout == "日本 x\n"
    assert (poor.stdout, poor.stderr, poor.returncode) == ("?? x\n", "", 0)


def test_the_status_where_there_is_no_room(config: Path) -> None:
    """74: whoever reads the file must not take it for whole."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*WATTNAP, "--config", str(config), "status"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

    assert result.returncode == os.EX_IOERR
    assert "No space left" in complaint(result)


def test_ctrl_c_takes_a_live_prompt_back(config: Path) -> None:
    """130, and the engine is free again."""
    with subprocess.Popen(
        [*WATTNAP, "--config", str(config), "ask", "endless"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(7) == b"endless"
        process.send_signal(signal.SIGINT)
        status = process.wait(10)

    def newest() -> dict[str, Any]:
        listed = printed(wattnap("requests", "--limit", "1", "--json", config=config))
        return dict(listed["requests"][0])

    end_s = time.monotonic() + 20
    while (found := newest())["error"] is None and time.monotonic() < end_s:
        pass  # its row is completed behind the answer, as quickly as the disk is

    assert status == 130
    assert found["error"] == "cancelled"


def test_submit_and_wait(config: Path) -> None:
    """The answer of a text file; its JSON has the id that was chosen."""
    result = wattnap("submit", "-", "--id", "s-1", "--wait", config=config, given="to be kept")
    again = printed(wattnap("answer", "s-1", "--json", config=config))

    assert result.stdout == "to be kept\n"
    assert (again["id"], again["text"]) == ("s-1", "to be kept")


def test_submit_does_not_wait(config: Path) -> None:
    """It prints the id, and the answer can be waited for later."""
    queued = printed(wattnap("submit", "-", "--json", config=config, given="later on"))
    answer = printed(wattnap("answer", queued["id"], "--wait", "--json", config=config))

    assert queued["repeated"] is False
    assert answer["text"] == "later on"


def test_submit_a_chat(config: Path, tmp_path: Path) -> None:
    """A JSON file is an OpenAI body, however it is laid out."""
    file = tmp_path / "chat.json"
    body = {"messages": [{"role": "user", "content": "from a file"}]}
    file.write_text(json.dumps(body, indent=2))
    result = wattnap("submit", str(file), "--wait", config=config)

    assert result.stdout == "from a file\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [("{nonsense", "not JSON"), ("", "empty"), ('{"prompt": "x", "n": 2}', "n: expected 1, got 2")],
)
def test_submit_what_cannot_be_served(given: str, words: str, config: Path) -> None:
    """65, in words that name the trouble."""
    result = wattnap("submit", "-", config=config, given=given)

    assert result.returncode == os.EX_DATAERR
    assert words in complaint(result)


def test_submit_the_same_id_with_another_text(config: Path) -> None:
    """A conflict, and the first one is untouched."""
    wattnap("submit", "-", "--id", "c-1", "--wait", config=config, given="first")
    result = wattnap("submit", "-", "--id", "c-1", config=config, given="second")

    assert result.returncode == os.EX_DATAERR
    assert "c-1" in complaint(result)
    assert printed(wattnap("answer", "c-1", "--json", config=config))["text"] == "first"


def test_submit_a_file_that_is_not_there(config: Path) -> None:
    """66, EX_NOINPUT."""
    result = wattnap("submit", "/nonexistent", config=config)

    assert result.returncode == os.EX_NOINPUT
    assert "/nonexistent" in complaint(result)


def test_cancel_what_has_ended(config: Path) -> None:
    """65: nothing was cancelled."""
    wattnap("submit", "-", "--id", "d-1", "--wait", config=config, given="x")
    result = wattnap("cancel", "d-1", config=config)

    assert result.returncode == os.EX_DATAERR
    assert "d-1" in complaint(result)


def test_cancel_what_runs(config: Path) -> None:
    """It is cancelled, and so says its answer."""
    wattnap("submit", "-", "--id", "e-1", config=config, given="endless")
    cancelled = printed(wattnap("cancel", "e-1", "--json", config=config))
    result = wattnap("answer", "e-1", "--json", config=config)

    assert cancelled == {"id": "e-1", "cancelled": True}
    assert json.loads(result.stdout)["error"]["code"] == "cancelled"
    assert result.returncode == os.EX_TEMPFAIL


def test_status_wake_and_rest(config: Path) -> None:
    """The operator's commands, each with one line of JSON."""
    woken = printed(wattnap("wake", "--keep-warm", "1", "--json", config=config))
    wattnap("ask", "x", config=config)
    status = printed(wattnap("status", "--json", config=config))
    people = wattnap("status", config=config).stdout
    again = wattnap("wake", config=config).stdout
    rest = printed(wattnap("rest", "off", "--json", config=config))

    assert woken == rest == {"ok": True}
    assert (status["state"], status["waiting"], status["running"]) == ("awake", 0, 0)
    assert "estimate" in status["energy"]["source"]
    assert people.startswith("awake")
    assert again == "it is awake\n"


def test_bake(config: Path) -> None:
    """It tells each step and how it ended; `--json` only that."""
    people = wattnap("bake", config=config).stdout.splitlines()
    result = printed(wattnap("bake", "--again", "--json", config=config))

    assert "awake, and has answered" in people[-3]
    assert "has slept" in people[-2]
    assert people[-1].startswith("baked at ")
    assert result["at"]
    assert result["seconds"] < 60


def test_rest_at_a_depth_that_is_not_offered(config: Path) -> None:
    """65, with the depths that are."""
    result = wattnap("rest", "parked", config=config)

    assert result.returncode == os.EX_DATAERR
    assert "offered: light, stopped, off" in complaint(result)


def lines_of(config: Path, awaited: str) -> list[dict[str, Any]]:
    """Once that line is there: what a request drew is known some seconds after it."""
    deadline = time.monotonic() + 30
    while True:
        rows = printed(wattnap("energy", "--by", "depth", "--json", config=config))["energy"]
        if awaited in {row["line"] for row in rows} or time.monotonic() > deadline:
            return rows  # type: ignore[no-any-return]  # it is JSON
        time.sleep(0.2)


def test_the_log(config: Path) -> None:
    """Each view as one line of JSON; what was not measured is null, not 0."""
    wattnap("ask", "x", config=config)
    wattnap("ask", "x", "--model", "other", config=config)
    requests = printed(wattnap("requests", "--limit", "2", "--json", config=config))["requests"]
    refused, done = requests
    energy = lines_of(config, "request")
    by_day = printed(wattnap("energy", "--by", "day", "--json", config=config))
    wakes = printed(wattnap("wakes", "--json", config=config))["wakes"]

    assert (done["state"], refused["state"]) == ("done", "refused")
    assert refused["marginal_j"] is None
    assert done["energy_source"] == "estimate"
    assert {"request", "idle", "waking"} <= {row["line"] for row in energy}
    assert by_day["energy"][0]["requests"] >= 1
    assert wakes[0]["outcome"] == "ok"


def test_requests_can_be_chosen(config: Path) -> None:
    """By time, by state and in number."""
    wattnap("ask", "x", "--model", "other", config=config)
    everything = printed(wattnap("requests", "--since", "1h", "--json", config=config))
    refused = printed(wattnap("requests", "--state", "refused", "--json", config=config))
    future = printed(wattnap("requests", "--since", "2100-01-01", "--json", config=config))
    wrong = wattnap("requests", "--since", "long ago", config=config)

    assert everything["requests"]
    assert {row["state"] for row in refused["requests"]} == {"refused"}
    assert future["requests"] == []
    assert wrong.returncode == os.EX_USAGE


def test_tables_are_for_people(config: Path) -> None:
    """Headings with units, an empty cell where nothing was measured, and what estimates are."""
    wattnap("ask", "x", config=config)
    result = wattnap("requests", config=config)

    assert "wake s" in result.stdout
    assert "None" not in result.stdout
    assert "no meter has measured it" in result.stderr


def test_on_a_terminal(config: Path) -> None:
    """The answer without what a terminal would obey, and then in a line what it took."""
    seen = b""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*WATTNAP, "--config", str(config), "ask", "hel\x1b[5mlo\x9b1m"],
        stdin=its, stdout=its, stderr=its, env=os.environ | {"TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(its)
        with contextlib.suppress(OSError):  # how a terminal ends
            while chunk := os.read(ours, 4096):
                seen += chunk
        os.close(ours)
        status = process.wait(10)

    assert status == 0
    assert b"hel[5mlo1m\r\n" in seen
    assert b"1 tokens" in seen


def test_a_reader_that_has_enough(config: Path) -> None:
    """`wattnap requests | head` says nothing about a broken pipe."""
    wattnap("ask", "x", config=config)
    ours, its = os.pipe()
    os.close(ours)
    with subprocess.Popen(
        [*WATTNAP, "--config", str(config), "requests"], stdout=its, stderr=subprocess.PIPE
    ) as process:
        os.close(its)
        _, errors = process.communicate(timeout=20)

    assert errors == b""
    assert process.returncode == 1  # as click ends then
