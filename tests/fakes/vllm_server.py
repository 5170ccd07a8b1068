"""A process that speaks vLLM's HTTP on a unix socket, and misbehaves when told to.

    python tests/fakes/vllm_server.py MODEL --uds PATH [switches]

It answers as drivers.fake does, with the words of the prompt. It takes vLLM's flags
and ignores them, but for --middleware: with it, it sleeps and wakes as vLLM does with ours,
or as --sleep-fault says; a prompt that comes while it sleeps is never answered. Like vLLM
0.32 it binds its socket long before it listens, never removes it, leaves files in
VLLM_RPC_BASE_PATH, and loses a SIGTERM while it starts.

Prompts that do something else:

    endless   streams a word at a time for ever, 100 a second unless --tokens-per-s
    hang      is taken and never answered, though /health goes on saying 200
    poison    ends the process with status 0 in the middle of the reply
    error     an error inside a stream that began with status 200
    reset     the connection is reset in mid-stream; the process lives on
    cut       the stream ends properly, but inside an event
    greedy    takes 2 GiB of memory, and is answered if it gets them
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drivers.fake import Answer, prompt_of

CHECK = "wattnap"
"""The daemon's prompt after each wake (appliance/machine/canary.py): not held, not in the log."""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
time.sleep(600)
"""


FAULTS = {
    "state": "our part of it does not work",
    "prepare": "preparing its sleep fails",
    "sleep": "falling asleep fails",
    "insomnia": "it says that it sleeps, and does not",
    "hoard": "it sleeps, and frees nothing",
    "crowd": "it sleeps, and somebody else takes what it has freed",
    "wake": "waking fails",
    "damage": "waking it finds that the image is no good",
    "coma": "it says that it woke, and did not",
    "hang": "waking never ends",
    "die": "waking ends the process",
    "nonsense": "its answers are no JSON",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uds", type=Path, required=True)
    parser.add_argument("--served-model-name", default="fake")
    parser.add_argument("--shutdown-timeout", type=float, default=0)
    parser.add_argument("--start-s", type=float, default=0, help="time that loading takes")
    parser.add_argument("--tokens-per-s", type=float, default=0, help="0: all at once")
    parser.add_argument("--gate", type=Path, help="file; answers wait until it is there")
    parser.add_argument("--die-at-90", action="store_true", help="exit 1 while loading")
    parser.add_argument("--last-words", help="exit 1 while loading, with these")
    parser.add_argument("--fits", type=int, help="greater --max-num-seqs: out of memory, exit 1")
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--grandchild", action="store_true", help="leave one that will not go")
    parser.add_argument("--core", action="store_true", help="another that is called EngineCore")
    parser.add_argument("--shared-memory", action="store_true", help="leave a psm_ file")
    parser.add_argument("--flood", type=int, default=0, metavar="BYTES", help="of output")
    parser.add_argument("--silent", action="store_true", help="never say that it is ready")
    parser.add_argument("--middleware", dest="sleeps", help="any: it has ours")
    parser.add_argument("--pool-bytes", type=int, help="of a GPU that it says it uses")
    parser.add_argument("--sleep-s", type=float, default=0, help="time that falling asleep takes")
    parser.add_argument("--image-sleeps", type=int, default=1, help="until it has an image")
    parser.add_argument("--image-pieces", type=int, default=1, help="that make up the image")
    parser.add_argument("--sleep-fault", choices=FAULTS, help="what goes wrong")
    parser.add_argument("--log", type=Path, help="file that gets a line for each prompt it takes")
    options, _ = parser.parse_known_args()
    asyncio.run(serve(options))


async def serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(options.uds))
    await load(options)
    if not options.ignore_sigterm:
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = Server(options)
    runner = web.AppRunner(server.app, shutdown_timeout=options.shutdown_timeout)
    await runner.setup()
    if not options.silent:
        say("INFO:     Application startup complete.")
    await web.SockSite(runner, listening).start()
    await stopped.wait()
    await runner.cleanup()


async def load(options: argparse.Namespace) -> None:
    """Do what is seen of a start."""
    if base := os.environ.get("VLLM_RPC_BASE_PATH"):
        (Path(base) / str(uuid.uuid4())).touch()
    if options.grandchild:
        subprocess.Popen([sys.executable, "-S", "-c", STUBBORN])
    if options.core:
        subprocess.Popen(["VLLM::EngineCore", "3600"], executable="/bin/sleep")
    if options.shared_memory:
        kept = shared_memory.SharedMemory(create=True, size=64)
        resource_tracker.unregister(f"/{kept.name}", "shared_memory")
        options.kept = kept  # mapped for as long as we live
        say(f"shared memory {kept.name}")
    if options.flood:
        sys.stdout.write(("x" * 999 + "\n") * (options.flood // 1000))
    for percent in (0, 50, 90):
        sys.stdout.write(f"Loading safetensors checkpoint shards: {percent:3} %\r")
        sys.stdout.flush()
        await asyncio.sleep(options.start_s / 3)
    if options.fits is not None and options.max_num_seqs > options.fits:
        options.last_words = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB."
    if options.last_words:
        say(options.last_words)
        sys.exit(1)
    if options.die_at_90:
        say("(EngineCore pid=7) ERROR 11-21 06:00:00 [core.py:93] ValueError: too little memory")
        say("RuntimeError: Engine core initialization failed. See root cause above.")
        sys.exit(1)


class Server:
    """The routes, and how many requests are in them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.running = 0
        self.hoard = b""
        self.asleep = False
        self.image_sleeps = options.image_sleeps
        self.image_pieces = options.image_pieces
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/metrics", self.metrics),
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.complete),
                web.post("/v1/completions", self.complete),
            ]
        )
        if options.sleeps:
            self.app.add_routes(
                [
                    web.get("/wattnap/state", self.state),
                    web.post("/wattnap/prepare", self.prepare),
                    web.post("/wattnap/sleep", self.sleep),
                    web.post("/wattnap/wake", self.wake),
                ]
            )

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        name = self.options.served_model_name
        return web.Response(
            text=f'vllm:num_requests_running{{engine="0",model_name="{name}"}} {self.running}.0\n'
        )

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": self.options.served_model_name, "object": "model", "max_model_len": 4096}
        return web.json_response({"object": "list", "data": [model]})

    async def state(self, _: web.Request) -> web.Response:
        return self.fails("state") or self.tell()

    async def prepare(self, request: web.Request) -> web.Response:
        assert request.query["image"]
        assert 0 < float(request.query["budget_s"]) < 1
        if failed := self.fails("prepare"):
            return failed
        self.image_pieces = max(0, self.image_pieces - 1)
        return self.tell(more=self.image_pieces > 0)

    async def sleep(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.options.sleep_s)
        if failed := self.fails("sleep"):
            return failed
        self.asleep = self.options.sleep_fault != "insomnia"
        pool_bytes = self.options.pool_bytes
        freed = {
            "freed_bytes": 0 if self.options.sleep_fault in {"hoard", "crowd"} else pool_bytes,
            "held_bytes": pool_bytes if self.options.sleep_fault == "hoard" else 0,
        }
        return self.tell(**self.image(request), **freed)

    def image(self, request: web.Request) -> dict[str, str]:
        """What its answer says of the image that it was to make."""
        if request.query["level"] != "2":
            return {}
        assert request.query["image"]
        self.image_sleeps = max(0, self.image_sleeps - 1)
        return {"image": f"{self.image_sleeps} sleeps are missing" if self.image_sleeps else ""}

    async def wake(self, request: web.Request) -> web.Response:
        fault = self.options.sleep_fault
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "die":
            os._exit(0)
        if failed := self.fails("wake"):
            return failed
        self.asleep = fault == "coma"
        if request.query["level"] == "1":
            return self.tell(weights="kept")
        return self.tell(weights="files" if fault == "damage" or self.image_sleeps else "image")

    def fails(self, where: str) -> web.Response | None:
        if self.options.sleep_fault == "nonsense" and where != "state":
            return web.Response(text="<html>")
        if self.options.sleep_fault != where:
            return None
        error = {"error": "AssertionError: Memory usage increased after sleeping."}
        return web.json_response(error, status=500)

    def tell(self, **more: object) -> web.Response:
        pool_bytes = self.options.pool_bytes
        state = {"asleep": self.asleep, "free_bytes": pool_bytes, "pool_bytes": pool_bytes}
        return web.json_response(state | more)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.running += 1
        try:
            return await self.answer(request)
        finally:
            self.running -= 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        seen_s = time.monotonic()
        try:
            asked = await request.json()
            prompt = prompt_of(asked)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            refusal = {"message": str(error), "type": "BadRequestError", "param": None, "code": 400}
            return web.json_response({"error": refusal}, status=400)
        if self.options.log and prompt != CHECK:
            with self.options.log.open("a") as log:
                log.write(f"{seen_s:.6f} {json.dumps(prompt)}\n")
        if self.options.gate and prompt != CHECK:
            while not self.options.gate.exists():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        if prompt == "hang" or self.asleep:
            await asyncio.Event().wait()
        if prompt == "greedy":
            self.hoard = b"x" * (2 << 30)
        answer = Answer(asked, prompt, chat=request.path.endswith("/chat/completions"))
        if asked.get("stream"):
            return await self.stream(request, prompt, answer)
        if prompt == "poison":
            os._exit(0)
        await asyncio.sleep(self.token_s * len(answer.words))
        return web.Response(body=answer.whole(), content_type="application/json")

    async def stream(self, request: web.Request, prompt: str, answer: Answer) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await reply.prepare(request)
        token_s = self.token_s or (0.01 if prompt == "endless" else 0.0)
        due_s = time.monotonic()
        for event in self.events(prompt, answer):
            await reply.write(event)
            if prompt == "poison":
                os._exit(0)
            if prompt == "reset" and request.transport is not None:
                request.transport.abort()
            due_s += token_s
            if (early_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
        await reply.write_eof()
        return reply

    def events(self, prompt: str, answer: Answer) -> Iterator[bytes]:
        if prompt == "endless":
            while True:
                yield next(answer.events())
        if prompt == "cut":
            yield next(answer.events()) + b"data: {"
            return
        if prompt == "error":
            yield next(answer.events())
            error = {"message": "EngineCore encountered an issue.", "code": 500}
            yield b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"
            return
        yield from answer.events()

    @property
    def token_s(self) -> float:
        per_s = self.options.tokens_per_s
        return 1 / per_s if per_s else 0.0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
