"""The HTTP door's paths that are no prompts, and what is no HTTP."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from appliance.doors import http
from appliance.errors import ApplianceError, CommandError
from tests.appliance.doors.http_doors import CHAT, serving
from tests.fakes.desk import FakeDesk


async def test_models_and_state_ask_nothing_of_the_engine(desk: FakeDesk) -> None:
    """They say what the desk knows."""
    async with serving(desk) as door:
        _, models = await door.get("/v1/models")
        _, model = await door.get("/v1/models/main")
        missing = await door.get("/v1/models/other")
        _, state = await door.get("/v1/wattnap/state")
        _, health = await door.get("/health")

    assert models == {"object": "list", "data": [model]}
    assert (model["id"], model["object"]) == ("main", "model")
    assert missing[0] == 404
    assert (state["state"], state["energy"]["today_j"]) == ("asleep", 12.5)
    assert health == {"status": "ok", "state": "asleep", "depth": "off"}
    assert (desk.calls, desk.wakes) == ([], [])


async def test_wake_and_rest(desk: FakeDesk) -> None:
    """With a wish or without a body at all."""
    async with serving(desk) as door:
        assert (await door.post("/v1/wattnap/wake", {"keep_warm_s": 60}))[0] == 202
        async with door.session.post("/v1/wattnap/wake") as reply:
            assert reply.status == 202
        assert (await door.post("/v1/wattnap/rest", {"depth": "off"}))[0] == 202
        for body in ({"depth": "deep"}, {"depth": 5}, {"colour": 1}):
            assert (await door.post("/v1/wattnap/rest", body))[0] == 400
        _, told = await door.post("/v1/wattnap/wake", {"keep_warm": 60})

    assert (desk.wakes, desk.rests) == ([60.0, 0.0], ["off"])
    assert told["error"]["param"] == "keep_warm"
    assert "did you mean `keep_warm_s`?" in told["error"]["message"]


async def test_metrics_are_prometheus_text(desk: FakeDesk) -> None:
    """Each line is a comment or a sample, each sample belongs to the family above it."""
    async with serving(desk) as door, door.session.get("/metrics") as reply:
        text = await reply.text()

    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    family, samples = "", {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        elif not line.startswith("# HELP "):
            found = re.fullmatch(r'(\w+)\{((?:\w+="[^"\\]*",?)*)\} ([0-9.e+-]+)', line)
            assert found, line
            assert found[1] == family
            samples[f"{found[1]}{{{found[2]}}}"] = float(found[3])
    assert samples['wattnap_state{state="asleep",depth="off"}'] == 1
    assert samples['wattnap_requests_ended_total{door="http",outcome="done"}'] == 3
    assert samples['wattnap_energy_joules_total{line="idle",depth="awake"}'] == 12.5
    assert samples['wattnap_wakes_seconds_total{from="off",outcome="ok"}'] == 41.5
    assert samples['wattnap_ttft_seconds{quantile="0.9"}'] == 20


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/v1/models", 405),
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/chat", 404),
        ("GET", "/v1/models/a/b", 404),
        ("POST", "/wattnap/sleep?level=1", 404),
        ("GET", "/v1/../health", 404),
        ("GET", "/v1/models/%2e%2e/health", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/docs", 404),
        ("OPTIONS", "/v1/models", 204),
        ("OPTIONS", "/nope", 404),
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/health", 200),
        ("HEAD", CHAT, 405),
        ("GET", "/v1/models/", 200),
    ],
)
async def test_no_other_path_reaches_anything(
    method: str, path: str, status: int, desk: FakeDesk
) -> None:
    """404 and 405, as OpenAI says them; the engine's own paths are none of a client's."""
    raw = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with serving(desk) as door:
        heard = await door.raw(raw.encode())

    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    if status >= 400 and method != "HEAD":
        assert body.startswith(b'{"error":{"message":')
    if method == "HEAD":
        assert body == b""
    assert desk.calls == []


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nbroken\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"BREW /health HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http(
    raw: bytes, desk: FakeDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """400 and good-bye. Strangers do not fill the log."""
    async with serving(desk) as door:
        heard = await door.raw(raw)

    assert heard.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b'"code":"bad_http"' in heard
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_api_is_described() -> None:
    """docs/http.md has each path, and each error that can be told."""
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    source = Path(http.__file__)
    paths = re.findall(r'"(/(?:v1/)?[a-z/]+)"', source.with_name("http_paths.py").read_text())
    codes = re.findall(
        r'Problem\(\s*\d+,\s*"(\w+)"',
        "".join(path.read_text() for path in source.parent.glob("http*.py")),
    )
    told = [kind.code for kind in ApplianceError.__subclasses__() if kind is not CommandError]

    assert paths
    assert codes
    assert [path for path in paths if f"`{path}" not in page and f" {path}`" not in page] == []
    assert [code for code in codes + told if f"`{code}`" not in page] == []
