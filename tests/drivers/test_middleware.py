"""The layer in vLLM's server, over an engine client that notes what it is told."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.engine_side.wattnap_engine.middleware import Control, Scope, Send

GIB = 1 << 30
SLEEP_DEEPLY = "/wattnap/sleep?level=2&image=%2Fcache%2Fmain&budget_s=20"


class Client:
    """vLLM's AsyncLLM as the middleware knows it (0.17 to 0.33), over two workers on a GPU."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.asleep = False
        self.free_bytes, self.free_asleep_bytes = GIB, 3 * GIB
        self.save_says = ["", ""]
        self.load_says = ["", ""]
        self.prepare_says = [False, False]
        self.fails = ""

    async def is_sleeping(self) -> bool:
        return self.asleep

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        self.note(f"sleep {level} {mode}")
        self.asleep, self.free_bytes = True, self.free_asleep_bytes

    async def wake_up(self, tags: list[str] | None = None) -> None:
        self.note(f"wake_up {tags}")
        self.asleep = tags == ["weights"]

    async def collective_rpc(self, method: str, *, args: tuple[object, ...] = ()) -> list[Any]:
        if method == "wattnap_memory":
            return [{"free_bytes": self.free_bytes, "pool_bytes": 2 * GIB}] * 2
        if method == "wattnap_held":
            return [0 if self.asleep else 2 * GIB] * 2
        self.note(" ".join([method, *map(str, args)]))
        says: dict[str, list[Any]] = {
            "wattnap_prepare": self.prepare_says,
            "wattnap_save": self.save_says,
            "wattnap_load": self.load_says,
        }
        return says.get(method, [None])

    def note(self, what: str) -> None:
        self.told.append(what)
        if self.fails and what.startswith(self.fails):
            raise RuntimeError("Memory usage increased after sleeping.")


class Server:
    """An ASGI server with one layer over one engine."""

    def __init__(self) -> None:
        self.client = Client()
        self.layer = Control(self.below)

    async def below(self, scope: Scope, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "app": SimpleNamespace(state=SimpleNamespace(engine_client=self.client)),
        }
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self.layer(scope, None, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def server() -> Server:
    return Server()


async def test_other_paths_are_not_its_business(server: Server) -> None:
    """What does not begin with /wattnap/ goes on to vLLM."""
    assert await server.ask("POST", "/v1/completions") == (299, {})


async def test_no_such_path(server: Server) -> None:
    """404 for its own, unknown ones, and for the wrong method."""
    assert (await server.ask("GET", "/wattnap/sleep"))[0] == 404


async def test_a_sleep_after_which_little_is_free(server: Server) -> None:
    """Then it says whether it has let go of its memory itself."""
    server.client.free_asleep_bytes = GIB
    _, slept = await server.ask("POST", "/wattnap/sleep?level=1")

    assert (slept["freed_bytes"], slept["held_bytes"]) == (0, 0)


async def test_garbage_is_collected_in_the_server_too(server: Server) -> None:
    """Where nobody waits for it: what its requests left in circles."""
    gc.disable()
    try:
        gone = weakref.ref(Server())  # whose layer knows it
        await server.ask("POST", "/wattnap/sleep?level=1")
        assert gone() is None
    finally:
        gc.enable()


async def test_names_that_pythons_cache_alone_holds_are_let_go_of_there(server: Server) -> None:
    """Not only by the workers: its pages are as many."""
    gc.collect()
    before = sys.getallocatedblocks()
    for name in [f"name {n}" for n in range(20_000)]:
        hasattr(server, name)
    held = sys.getallocatedblocks() - before

    await server.ask("POST", "/wattnap/sleep?level=1")

    assert held >= 300
    assert sys.getallocatedblocks() - before <= held - 200


async def test_level_1(server: Server) -> None:
    """The answers add up the workers' memory; the weights are kept."""
    assert await server.ask("GET", "/wattnap/state") == (
        200,
        {"asleep": False, "free_bytes": 2 * GIB, "pool_bytes": 4 * GIB},
    )

    status, slept = await server.ask("POST", "/wattnap/sleep?level=1")

    assert (status, slept["asleep"]) == (200, True)
    assert slept["freed_bytes"] == 4 * GIB
    assert "held_bytes" not in slept

    status, woken = await server.ask("POST", "/wattnap/wake?level=1")

    assert (status, woken["asleep"], woken["weights"]) == (200, False, "kept")
    assert woken["took_s"].keys() == {"cache"}
    assert server.client.told == ["sleep 1 abort", "wattnap_tidy", "wattnap_rouse", "wake_up None"]


async def test_level_2_with_an_image(server: Server) -> None:
    """Saved before it sleeps; loaded between the weights' memory and the cache's."""
    status, slept = await server.ask("POST", SLEEP_DEEPLY)

    assert (status, slept["image"]) == (200, "")

    status, woken = await server.ask("POST", "/wattnap/wake?level=2")

    assert (status, woken["weights"]) == (200, "image")
    assert woken["took_s"].keys() == {"memory", "weights", "cache"}
    assert server.client.told == [
        "wattnap_save /cache/main 20.0",
        "sleep 2 abort",
        "wattnap_tidy",
        "wattnap_rouse",
        "wake_up ['weights']",
        "wattnap_load",
        "wake_up ['kv_cache']",
    ]


@pytest.mark.parametrize("more", [True, False])
async def test_a_piece_of_the_image(server: Server, more: bool) -> None:
    """There is more of it while one worker says so. It stays awake."""
    server.client.prepare_says = [False, more]
    status, said = await server.ask("POST", "/wattnap/prepare?level=2&image=/a/b&budget_s=0.25")

    assert (status, said["more"], said["asleep"]) == (200, more, False)
    assert server.client.told == ["wattnap_prepare /a/b 0.25"]


@pytest.mark.parametrize("where", ["save_says", "load_says"])
async def test_level_2_without_an_image(server: Server, where: str) -> None:
    """If one worker has none, before or after, vLLM loads all weights from their files."""
    setattr(server.client, where, ["", "no space"])
    await server.ask("POST", SLEEP_DEEPLY)
    status, woken = await server.ask("POST", "/wattnap/wake?level=2")

    assert (status, woken["weights"]) == (200, "files")
    assert server.client.told[-3:][1:] == ["reload_weights", "wake_up ['kv_cache']"]


@pytest.mark.parametrize("fails", ["sleep", "wake_up ['weights']", "wattnap_load", "wake_up ['kv"])
async def test_errors_are_told(server: Server, fails: str) -> None:
    """Status 500 with the exception's text, and nothing is tried after it."""
    server.client.fails = fails
    status, answer = await server.ask("POST", SLEEP_DEEPLY)
    if fails != "sleep":
        status, answer = await server.ask("POST", "/wattnap/wake?level=2")

    assert status == 500
    assert answer == {"error": "RuntimeError: Memory usage increased after sleeping."}
    assert server.client.told[-1].startswith(fails)


async def test_a_request_that_makes_no_sense(server: Server) -> None:
    """A missing or foreign level is an error, and the engine is told nothing."""
    assert (await server.ask("POST", "/wattnap/sleep"))[0] == 500
    assert (await server.ask("POST", "/wattnap/wake?level=x"))[0] == 500
    assert server.client.told == []
