"""Who may use the HTTP door, and where it listens."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.config import load
from appliance.config_http import Http
from appliance.doors.http_gate import read_keys
from appliance.errors import ConfigError
from tests.appliance.doors.http_doors import CHAT, asked, encoded, request, serving
from tests.fakes.desk import FakeDesk

KEY, OTHER = "k" * 16, "o" * 16


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text(f"# who may\nkitchen: {KEY}\n\n{OTHER}\n")
    return str(path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": KEY}, "missing_api_key"),
        ({"Authorization": f"Basic {KEY}"}, "missing_api_key"),
        (bearer(""), "missing_api_key"),
        (bearer("wrong"), "invalid_api_key"),
        (bearer(KEY[:-1]), "invalid_api_key"),
        (bearer(KEY + "k"), "invalid_api_key"),
        (bearer("\udcff\udcfe"), "invalid_api_key"),
        (bearer(f"kitchen: {KEY}"), "invalid_api_key"),
    ],
)
async def test_without_the_key(
    headers: dict[str, str], code: str, keys: str, desk: FakeDesk
) -> None:
    """401; nothing is asked of the desk, and nothing is written down that strangers say."""
    lines = [f"{name}: {value}".encode(errors="surrogateescape") for name, value in headers.items()]
    raw = request(encoded("x"), CHAT, "Connection: close")
    raw = raw.replace(b"\r\n", b"\r\n" + b"".join(line + b"\r\n" for line in lines), 1)
    async with serving(desk, {"api_keys_file": keys}) as door:
        heard = await door.raw(raw)

    assert heard.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Bearer\r\n" in heard
    assert f'"code":"{code}"'.encode() in heard
    assert (desk.calls, desk.refusals) == ([], [])


async def test_a_key_is_a_client(keys: str, desk: FakeDesk) -> None:
    """By its name, or by one that does not tell it; requests of others are not found."""
    desk.held = True
    async with serving(desk, {"api_keys_file": keys}) as door:
        for key in (KEY, OTHER):
            assert (await door.ask("x", headers=bearer(key)))[0] == 200
        await door.ask("x", headers=bearer(KEY), wattnap={"id": "a", "durable": True})
        mine = await door.get("/v1/wattnap/requests/a", bearer(KEY))
        theirs = await door.get("/v1/wattnap/requests/a", bearer(OTHER))

    clients = [request.client for request in desk.calls]
    assert clients[0] == "kitchen"
    assert re.fullmatch("key-[0-9a-f]{8}", clients[1])
    assert (mine[0], theirs[0]) == (200, 404)


async def test_what_is_told_without_a_key(keys: str, desk: FakeDesk) -> None:
    """That it lives, and nothing else."""
    async with serving(desk, {"api_keys_file": keys}) as door:
        assert (await door.get("/health"))[0] == 200
        for path in ("/metrics", "/v1/models", "/v1/wattnap/state"):
            assert (await door.get(path))[0] == 401


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("", "no key in it"),
        ("# nothing\n", "no key in it"),
        ("none", "line 1: a key is one word of at least 16"),
        (f"{KEY}\nhome: short", "line 2"),
        ("two words that are long enough", "line 1"),
        (b"\xff" * 20, "no text"),
    ],
)
def test_files_of_keys_that_are_none(text: Any, words: str, tmp_path: Path) -> None:
    """The line is named, the key is not."""
    path = tmp_path / "keys"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as told:
        read_keys(path)

    assert "short" not in str(told.value)
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('listen = "8071"', "http.listen: .*:8071 is open to others"),
        ('listen = "0.0.0.0:8071"', "http.api_keys_file, or set http.without_keys"),
        ('listen = "[::]:8071"', "is open to others"),
        ('listen = "home.lan:8071"', "no IP address"),
        ('listen = "127.0.0.1:"', "no port"),
        ('listen = "127.0.0.1:70000"', "no port"),
        ('listen = "127.0.0.1"', "no port"),
        ('origins = ["home.lan"]', "http.origins"),
        ('keys = ["secret"]', "no such setting"),
    ],
)
def test_settings_that_are_refused(text: str, words: str, tmp_path: Path) -> None:
    """In words that say what to do."""
    path = tmp_path / "wattnap.toml"
    path.write_text(f"[http]\n{text}\n")
    with pytest.raises(ConfigError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("listen", "more", "address"),
    [
        ("", {}, "None"),
        ("127.0.0.1:8071", {}, "127.0.0.1:8071"),
        ("localhost:8071", {}, "127.0.0.1:8071"),
        ("[::1]:8071", {}, "[::1]:8071"),
        ("8071", {"without_keys": True}, "*:8071"),
        (":8071", {"api_keys_file": "/x"}, "*:8071"),
    ],
)
def test_where_it_listens(listen: str, more: dict[str, Any], address: str) -> None:
    assert str(Http(listen=listen, **more).address) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
async def test_it_listens_there(host: str, desk: FakeDesk) -> None:
    """Also on all interfaces, of both kinds."""
    from tests.brokers import free_port

    port = free_port()
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with serving(desk, {"listen": listen, "without_keys": True}) as door:
        reached = [host] if host else ["127.0.0.1", "::1"]
        for at in reached:
            url = f"http://[{at}]:{port}" if ":" in at else f"http://{at}:{port}"
            async with door.session.get(f"{url}/health") as reply:
                assert reply.status == 200


async def test_a_port_that_is_taken(desk: FakeDesk) -> None:
    """The error names the setting and how to find out who has it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ExceptionGroup) as told:
            async with serving(desk, {"listen": f"127.0.0.1:{port}"}):
                pass

    (error,) = told.value.exceptions
    assert isinstance(error, ConfigError)
    assert re.match(rf"http.listen: 127.0.0.1:{port}: another program .*`ss -ltnp`", str(error))


async def test_invited_pages(desk: FakeDesk) -> None:
    """They may ask, and their browsers are told so before and after."""
    page = {"Origin": "http://home.lan:3000"}
    before = page | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    async with serving(desk, {"origins": (page["Origin"],)}) as door:
        async with door.session.options(CHAT, headers=before) as reply:
            assert reply.status == 204
            told = reply.headers
        async with door.session.post(CHAT, json=asked("x"), headers=page) as reply:
            assert reply.status == 200

    assert told["Access-Control-Allow-Origin"] == page["Origin"]
    assert told["Access-Control-Allow-Headers"] == before["Access-Control-Request-Headers"]
    assert "POST" in told["Access-Control-Allow-Methods"]
    assert reply.headers["Access-Control-Allow-Origin"] == page["Origin"]
    assert reply.headers["Vary"] == "Origin"


@pytest.mark.parametrize("path", [CHAT, "/v1/wattnap/wake", "/v1/wattnap/rest"])
async def test_pages_that_were_not_invited(path: str, desk: FakeDesk) -> None:
    """Any page can send to 127.0.0.1; nothing comes of it."""
    page = {"Origin": "https://evil.example"}
    async with serving(desk) as door:
        async with door.session.post(path, headers=page) as reply:
            assert reply.status == 403
            assert "Access-Control-Allow-Origin" not in reply.headers
        async with door.session.options(path, headers=page) as reply:
            assert reply.status == 403

    assert (desk.calls, desk.wakes, desk.rests) == ([], [], [])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8071", 200),
        ("localhost", 200),
        ("[::1]:8071", 200),
        ("192.168.1.5", 200),
        ("evil.example", 403),
        ("evil.example:8071", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
async def test_names_that_are_not_ours(host: str, status: int, desk: FakeDesk) -> None:
    """A page can give our address a name of its own (DNS rebinding); without keys it is refused."""
    async with serving(desk) as door:
        assert (await door.get("/v1/models", {"Host": host}))[0] == status


async def test_with_keys_any_name_is_ours(keys: str, desk: FakeDesk) -> None:
    """A page does not have the key."""
    headers = {"Host": "wattnap.home.lan", **bearer(KEY)}
    async with serving(desk, {"api_keys_file": keys}) as door:
        assert (await door.get("/v1/models", headers))[0] == 200


async def test_one_connection_too_many(desk: FakeDesk) -> None:
    """It is told when to come back; a place that is left is free again."""
    hello = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serving(desk, max_connections=2) as door:
        async with door.connected() as (first, writer), door.connected() as (second, other):
            for reader, to in ((first, writer), (second, other)):
                to.write(hello)
                await reader.readuntil(b"\r\n\r\n")
            async with door.connected() as (third, _):
                told = await third.read()
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1\r\n" in told
        while True:  # the door sees the others leave a little later
            heard = await door.raw(hello.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            if heard.startswith(b"HTTP/1.1 200 "):
                break


ACTIVATED = """
import asyncio, os, sys
from appliance.clock import SystemClock
from appliance.config_http import Http
from appliance.doors.http import HttpDoor
from tests.fakes.desk import FakeDesk

os.environ["LISTEN_PID"] = str(os.getpid())
os.dup2(int(os.environ["FD"]), 4)
async def main():
    config = Http(listen="127.0.0.1:1")
    door = HttpDoor(config, desk=FakeDesk(), clock=SystemClock(), max_request_bytes=1024)
    await door.run(lambda: print("ready", flush=True))
asyncio.run(main())
"""


def activated(listener: socket.socket) -> subprocess.Popen[bytes]:
    """A door that gets `listener` as systemd would give it, as its second one."""
    told = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "wattnap:wattnap-http"}
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATED],
        pass_fds=[listener.fileno()],
        env=os.environ | told | {"FD": str(listener.fileno())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_socket_from_systemd_is_used() -> None:
    """Whatever `listen` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener, activated(listener) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            told = client.makefile("rb").read()
        child.terminate()

    assert told.startswith(b"HTTP/1.0 200 ")


def test_systemd_opens_it_no_wider() -> None:
    """An address that others reach needs keys, whoever has opened it."""
    with socket.create_server(("0.0.0.0", 0)) as listener, activated(listener) as child:
        _, told = child.communicate(timeout=30)

    assert b"is open to others than this machine" in told
