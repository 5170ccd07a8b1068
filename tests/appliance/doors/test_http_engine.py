"""The HTTP door over vLLM itself: what it says past the daemon and through it is the same."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from appliance.app import running
from appliance.building import build_engine
from appliance.clock import SystemClock
from appliance.config import Config, Engine, Power
from drivers.cpu_time import CpuTimeMeter
from drivers.meters import Meters
from tests.appliance.doors.http_doors import CHAT, TEXT, asked, serving

COMMAND = "turn on the light in the kitchen"
COUNTED = {"include_usage": True}
NEVER_ALIKE = {"id", "created"}
WITH_THE_USAGE = "system_fingerprint"
"""vLLM says it once, in the last event; with usage that one is the daemon's own business."""
ASKS: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, asked(COMMAND, temperature=0)),
    (CHAT, asked(COMMAND, temperature=0, logprobs=True, top_logprobs=2)),
    (CHAT, asked(COMMAND, temperature=0, max_tokens=3, seed=1)),
    (TEXT, asked(COMMAND, TEXT, temperature=0, max_tokens=5)),
    (TEXT, asked(COMMAND, TEXT, temperature=0, max_tokens=5, logprobs=2, echo=True)),
)
WRONG: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, asked(COMMAND, max_tokens=100_000)),
    (CHAT, asked("x " * 5000)),
    (CHAT, asked(COMMAND, response_format={"type": "sonnet"})),
)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


def said(streamed: bytes) -> list[Any]:
    """The payloads in order, without what no two answers have in common."""
    lines = [line[6:] for line in streamed.splitlines() if line.startswith(b"data: ")]
    return [line if line == b"[DONE]" else alike(json.loads(line)) for line in lines]


def alike(said: Any) -> Any:
    """Logprobs differ in their last digits: the prompt is in a cache the second time."""
    if isinstance(said, dict):
        return {name: alike(value) for name, value in said.items() if name not in NEVER_ALIKE}
    if isinstance(said, list):
        return [alike(each) for each in said]
    return round(said, 2) if isinstance(said, float) else said


async def streamed(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> list[Any]:
    async with session.post(path, json=body | {"stream": True}) as reply:
        assert reply.status == 200, await reply.text()
        return said(await reply.read())


@pytest.mark.engine
@pytest.mark.timeout(400)
async def test_it_says_what_vllm_says(engine_python: str, tmp_path: Path, short_path: Path) -> None:
    """Chats and texts, streamed and whole, with logprobs and usage; and no to what it refuses."""
    config = Config(
        state_dir=str(tmp_path / "state"),
        runtime_dir=str(short_path),
        engine=Engine(
            python=engine_python, device="cpu", max_running=4, kv_cache_mib=16, enforce_eager=True
        ),
        power=Power(idle_timeout_s=600.0),
    )
    meters = Meters(CpuTimeMeter())
    async with (
        running(config, build_engine(config), meters, SystemClock()) as made,
        serving(made.intake) as door,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{door.port}/v1", api_key="any") as client,
    ):
        first = await client.chat.completions.create(
            model="main", messages=[{"role": "user", "content": COMMAND}], temperature=0
        )
        assert json.loads(first.choices[0].message.content or "")["action"] == "turn_on"

        engine = aiohttp.UnixConnector(str(short_path / "main" / "engine" / "vllm.sock"))
        async with aiohttp.ClientSession("http://engine", connector=engine) as straight:
            for path, body in ASKS:
                for options in ({}, {"stream_options": COUNTED}):
                    own = await streamed(straight, path, body | options)
                    if not options:
                        own[-2].pop(WITH_THE_USAGE, None)
                    assert await streamed(door.session, path, body | options) == own
                async with straight.post(path, json=body) as reply:
                    own_whole = await reply.json()
                status, whole = await door.post(path, body)
                assert status == 200
                assert (
                    whole["usage"]["completion_tokens"] == own_whole["usage"]["completion_tokens"]
                )
                check_choice(whole["choices"][0], own_whole["choices"][0])
            for path, body in WRONG:
                for stream in (False, True):
                    status, told = await door.post(path, body | {"stream": stream})
                    assert (status, told["error"]["type"]) == (400, "invalid_request_error")
                    assert told["error"]["code"] in {"engine_refused", "bad_request"}


def check_choice(choice: dict[str, Any], own: dict[str, Any]) -> None:
    """What vLLM says there with a value is there, with the same."""
    message, own_message = choice.pop("message", {}), own.pop("message", {})
    for name, value in own_message.items():
        if value not in (None, []):
            assert message[name] == value
    for name in ("text", "finish_reason", "logprobs"):
        assert alike(choice.get(name)) == alike(own.get(name)), name
