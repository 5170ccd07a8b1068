"""The HTTP door of the whole daemon, over a process that plays vLLM, and over vLLM itself.

The judges are the official client of the API, and curl.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.doors.http_gate import read_keys
from appliance.socket_client import Daemon
from tests.appliance.commands import daemon, write_config
from tests.brokers import free_port
from tests.conftest import required

CHAT = "/v1/chat/completions"

ASK: list[Any] = [{"role": "user", "content": "hello there you"}]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    connection: HTTPConnection, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Reply:
    """POST where there is a body, else GET."""
    connection.request(
        "GET" if body is None else "POST",
        path,
        None if body is None else json.dumps(body),
        {"Content-Type": "application/json", **(headers or {})},
    )
    reply = connection.getresponse()
    return Reply(reply.status, reply.headers, reply.read())


@dataclass(frozen=True)
class Box:
    """A running daemon: where it listens, its process, its folder."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.base}/v1", api_key="any", max_retries=0, **more)

    def ask(self, path: str, body: Any = None, **headers: str) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            return ask(connection, path, body, headers)

    def ask_engine(self, path: str, body: Any = None) -> Reply:
        """Straight, past the daemon."""
        connection = HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.folder / "run" / "main" / "engine" / "vllm.sock"))
            return ask(connection, path, body)

    def begin(self, body: dict[str, Any]) -> socket.socket:
        """Somebody who has sent it, and does nothing else."""
        raw = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n"
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + raw)
        return client

    def status(self) -> dict[str, Any]:
        with Daemon(self.folder / "run" / "wattnap.sock") as told:
            (event,) = told.call("status")
        return dict(event["status"])

    def until(self, true: Callable[[dict[str, Any]], bool]) -> None:
        end_s = time.monotonic() + 20
        while not true(self.status()):
            assert time.monotonic() < end_s, self.status()
            time.sleep(0.02)

    def until_told(self, path: str, words: str) -> None:
        end_s = time.monotonic() + 20
        while words not in (told := self.ask(path).body.decode()):
            assert time.monotonic() < end_s, told
            time.sleep(0.02)

    def prompts(self) -> list[str]:
        """That the engine has taken."""
        log = self.folder / "prompts.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line.partition(" ")[2]) for line in lines]


@contextlib.contextmanager
def box(folder: Path, *switches: str, port: int = 0, more: str = "") -> Iterator[Box]:
    """The daemon, at rest, over a pretender with these switches."""
    port = port or free_port()
    http = f'[http]\nlisten = "127.0.0.1:{port}"\n'
    config = write_config(folder, f"bake = false\n{http}{more}")
    log = ("--log", str(folder / "prompts.log"))
    with daemon(config, folder / "daemon.log", *log, *switches, stand_in=True) as process:
        yield Box(port, process, folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: there are sockets in it."""
    with tempfile.TemporaryDirectory(prefix="http") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def running() -> Iterator[Box]:
    with tempfile.TemporaryDirectory(prefix="http") as folder, box(Path(folder)) as made:
        yield made


def test_the_official_client(running: Box) -> None:
    """Chats, texts and streams; what it knows of errors it recognises."""
    with running.client() as client:
        chat = client.chat.completions.create(model="main", messages=ASK)
        assert chat.choices[0].message.content == "hello there you"
        assert chat.choices[0].finish_reason == "stop"
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 3
        assert chat.model_extra is not None
        assert chat.model_extra["wattnap"]["timing"]["total_s"] > 0
        assert chat._request_id == chat.model_extra["wattnap"]["id"]

        text = client.completions.create(model="main", prompt="one two", max_tokens=1)
        assert (text.choices[0].text, text.choices[0].finish_reason) == ("one", "length")
        assert [model.id for model in client.models.list()] == ["main"]
        assert client.models.retrieve("main").owned_by == "wattnap"

        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-4", messages=ASK)
        assert unknown.value.code == "unknown_model"
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(model="main", messages=ASK, temperature=9)
        assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")


def test_the_official_client_streams(running: Box) -> None:
    """Chunk by chunk; usage in the last one, if it is asked for."""
    with running.client() as client:
        parts = list(client.chat.completions.create(model="main", messages=ASK, stream=True))
        assert "".join(p.choices[0].delta.content or "" for p in parts) == "hello there you"
        assert all(part.usage is None for part in parts)

        counted = list(
            client.chat.completions.create(
                model="main", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        )
        assert counted[-1].choices == []
        assert counted[-1].usage is not None
        assert counted[-1].usage.total_tokens == 6

        texts = client.completions.create(model="main", prompt="one two", stream=True)
        assert [part.choices[0].text for part in texts] == ["one", " two"]


async def test_the_official_client_many_at_once(running: Box) -> None:
    """Each has its own answer."""
    async with openai.AsyncOpenAI(base_url=f"{running.base}/v1", api_key="any") as client:

        async def one(number: int) -> str | None:
            said: list[Any] = [{"role": "user", "content": f"number {number}"}]
            done = await client.chat.completions.create(model="main", messages=said)
            return done.choices[0].message.content

        async with asyncio.TaskGroup() as tasks:
            going = [tasks.create_task(one(number)) for number in range(50)]
    assert [task.result() for task in going] == [f"number {number}" for number in range(50)]


def test_what_the_engine_says_arrives_unchanged(running: Box) -> None:
    """Byte for byte, but for the end."""
    body = {"model": "main", "messages": ASK, "stream": True}
    body["stream_options"] = {"include_usage": True}
    with running.client() as client:
        client.chat.completions.create(model="main", messages=ASK)  # it is awake
    said = running.ask_engine(CHAT, body).body
    through = running.ask(CHAT, body).body

    events, comment, done = through.rsplit(b"\n\n", 3)[:3]
    assert events + b"\n\n" + done + b"\n\n" == said
    assert comment.startswith(b': {"wattnap":')


def test_curl(running: Box) -> None:
    """A terminal's way: a stream, and a body so large that it asks first."""
    curl = required("curl", shutil.which("curl"))
    url = f"{running.base}{CHAT}"
    head = ["-H", "Content-Type: application/json"]

    def told(body: dict[str, Any], *more: str) -> bytes:
        given = json.dumps(body).encode()
        command = [curl, "-sS", "--max-time", "20", *head, *more, "--data-binary", "@-", url]
        return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout

    streamed = told({"model": "main", "messages": ASK, "stream": True}, "-N")
    assert streamed.endswith(b"data: [DONE]\n\n")
    large = [{"role": "system", "content": "x" * 900_000}, *ASK]
    answer = told({"model": "main", "messages": large}, "-H", "Expect: 100-continue")
    assert json.loads(answer)["choices"][0]["message"]["content"] == "hello there you"


def test_looking_does_not_wake(folder: Path) -> None:
    """Models, health, metrics, state, and whatever is refused; a prompt does, and waits for it."""
    with box(folder, "--start-s", "0.5") as made:
        for path in ("/v1/models", "/health", "/metrics", "/v1/wattnap/state", "/nope"):
            made.ask(path)
        for body in ({"model": "other", "messages": ASK}, {"model": "main"}, {}):
            assert made.ask(CHAT, body).status in {400, 404}
        assert made.status()["state"] == "asleep"
        assert made.ask("/health").json()["state"] == "asleep"

        told = made.ask(CHAT, {"model": "main", "messages": ASK}).json()
        assert told["wattnap"]["timing"]["wake_s"] > 0.4
        assert made.ask("/health").json()["state"] == "awake"
        # The ledger's, whose disk may take longer than the answer.
        made.until_told("/metrics", 'wattnap_wakes_total{from="off",outcome="ok"} 1')


@pytest.mark.parametrize("stream", [False, True])
def test_a_wake_that_fails(stream: bool, folder: Path) -> None:
    """503, with a word on when to try again; the official client knows it as a server's error."""
    with (
        box(folder, "--die-at-90") as made,
        made.client() as client,
        pytest.raises(openai.InternalServerError) as told,
    ):
        client.chat.completions.create(model="main", messages=ASK, stream=stream)

    assert (told.value.status_code, told.value.code) == (503, "wake_failed")
    assert int(told.value.response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_cancels_it_in_the_engine(stream: bool, running: Box) -> None:
    """What nobody waits for any more draws no power."""
    endless = [{"role": "user", "content": "endless"}]
    with running.begin({"model": "main", "messages": endless, "stream": stream}) as client:
        running.until(lambda status: status["running"] == 1)
        if stream:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    running.until(lambda status: status["running"] == 0)
    end_s = time.monotonic() + 10
    while b"} 0.0" not in running.ask_engine("/metrics").body:
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_an_error_inside_a_stream(folder: Path) -> None:
    """The engine began, and failed: the official client raises, and takes nothing for whole."""
    said: list[Any] = [{"role": "user", "content": "error"}]
    with box(folder, "--tokens-per-s", "20") as made, made.client() as client:
        parts = client.chat.completions.create(model="main", messages=said, stream=True)
        with pytest.raises(openai.APIError, match="given up") as told:
            list(parts)

    assert told.value.code == "gave_up"


def test_who_does_not_read_blocks_nobody(folder: Path) -> None:
    """Others are served at their pace while one does not take what it asked for."""
    with box(folder, "--tokens-per-s", "100000") as made:
        endless = [{"role": "user", "content": "endless"}]
        with made.begin({"model": "main", "messages": endless, "stream": True}):
            made.until(lambda status: status["running"] == 1)
            with made.client() as client:
                for _ in range(20):
                    client.chat.completions.create(model="main", messages=ASK, timeout=5)


def test_what_was_accepted_survives_a_kill(folder: Path) -> None:
    """202, kill -9, a new daemon: each is answered once, under its id."""
    gate = folder / "gate"
    port = free_port()
    ids = [f"r{number}" for number in range(5)]
    with (
        contextlib.suppress(ProcessLookupError),
        box(folder, "--gate", str(gate), port=port) as made,
    ):
        for id in ids:
            body = {"model": "main", "messages": ASK, "wattnap": {"id": id}}
            assert made.ask(CHAT, body, Prefer="respond-async").status == 202
        made.process.send_signal(signal.SIGKILL)
        made.process.wait()
    gate.touch()
    with box(folder, "--gate", str(gate), port=port) as made:
        for id in ids:
            told = made.ask(f"/v1/wattnap/requests/{id}", Prefer="wait=20").json()
            assert told["state"] == "done"
            assert told["answer"]["message"]["content"] == "hello there you"


def test_a_stop_while_somebody_waits(folder: Path) -> None:
    """A live call is told that the daemon stops; nothing hangs."""
    with box(folder, "--start-s", "5") as made, ThreadPoolExecutor(1) as beside:
        asking = beside.submit(made.ask, CHAT, {"model": "main", "messages": ASK})
        made.until(lambda status: status["waiting"] == 1)
        made.process.send_signal(signal.SIGTERM)
        told = asking.result(20)

    assert told.status == 503
    assert told.json()["error"]["code"] == "interrupted"


def test_the_ledger_knows_who_asked(folder: Path) -> None:
    """The key's name is the client, live and kept."""
    keys = folder / "keys"
    keys.write_text("kitchen: " + "k" * 20)
    with box(folder, more=f'api_keys_file = "{keys}"\n') as made:
        with openai.OpenAI(base_url=f"{made.base}/v1", api_key="k" * 20) as client:
            client.chat.completions.create(model="main", messages=ASK)
        with (
            openai.OpenAI(base_url=f"{made.base}/v1", api_key="k" * 19, max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()

    with contextlib.closing(sqlite3.connect(folder / "state" / "wattnap.db")) as db:
        rows = db.execute("SELECT door, client, state, completion_tokens FROM requests").fetchall()
    assert rows == [("http", "kitchen", "done", 3)]


def test_the_documents_commands_work(running: Box) -> None:
    """Each of docs/http.md, as it stands there but for the port."""
    required("curl", shutil.which("curl"))
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    told = ""
    for kind, block in blocks:
        command = [sys.executable, "-c"] if kind == "python" else ["bash", "-e", "-c"]
        text = block.replace("127.0.0.1:8071", f"127.0.0.1:{running.port}")
        told += subprocess.run(
            [*command, text.replace("curl ", "curl -sSf ")],
            cwd=running.folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    assert len(blocks) == 4
    assert '"content":"turn on the light in the kitchen"' in told
    assert "lock the door" in told
    assert '"id":"blinds-1","state":"done"' in told
    assert list(read_keys(running.folder / "keys").values()) == ["kitchen"]
