"""A daemon of its own over this machine's engine, without a broker: started, asked, ended."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.socket_client import Daemon
from appliance.storage.reading import reading

CONFIG = """
state_dir = {state}
runtime_dir = {run}
[mqtt]
enabled = false
[engine]
python = {python}
model = {model}
device = "{device}"
max_model_len = {max_model_len}
kv_cache_mib = {kv_mib}
enforce_eager = {eager}
max_running = {max_running}
cache_dir = {cache}
args = {args}
{more}
[engine.env]
{env}
[log]
level = "{level}"
[power]
idle_timeout_s = 86400
bake = {bake}
"""


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine-python", default=sys.executable)
    parser.add_argument("--engine-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--engine-arg", action="append", default=[])
    parser.add_argument("--engine-key", action="append", default=[], metavar="KEY=TOML")
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--kv-mib", type=int, default=1024, help="0: as vLLM measures")
    parser.add_argument("--max-model-len", type=int, default=2048, help="0: the model's own")
    parser.add_argument("--max-running", type=int, default=16)
    parser.add_argument("--graphs", action="store_true", help="else eager")
    parser.add_argument("--cache", default="", help="kept between runs; else a new one")
    parser.add_argument("--log", type=Path, help="what the daemon logs, all of it, is added here")


@dataclass
class Running:
    """folder   everything is in here
    process  the daemon's
    """

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "wattnap.sock"

    def ask(self, text: str, tokens: int) -> dict[str, Any]:
        """One live answer; `first_s` in it: seconds until its first piece was here."""
        request = {"prompt": text, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        request |= {"temperature": 0}
        first_s, began_s = None, time.monotonic()
        with Daemon(self.socket) as daemon:
            for event in daemon.call("ask", request=request):
                if first_s is None and event["event"] in {"part", "answer"}:
                    first_s = time.monotonic() - began_s
        answer: dict[str, Any] = event["answer"]
        return answer | {"first_s": first_s}

    def status(self) -> dict[str, Any]:
        with Daemon(self.socket) as daemon:
            (told,) = daemon.call("status")
        status: dict[str, Any] = told["status"]
        return status

    def rest(self, depth: str | None = None) -> float:
        """Order it, and return the seconds until it rests there."""
        began_s = time.monotonic()
        with Daemon(self.socket) as daemon:
            list(daemon.call("rest", depth=depth))
        while (told := self.status())["state"] != "asleep" or depth not in {None, told["depth"]}:
            if time.monotonic() > began_s + 120:
                raise RuntimeError(f"does not come to rest: {told}")
            time.sleep(0.02)
        return time.monotonic() - began_s

    def bake(self) -> list[dict[str, Any]]:
        """Have it baked, or follow the bake that goes on: its steps and its end."""
        with Daemon(self.socket) as daemon:
            return list(daemon.call("bake"))

    def wait_until_awake(self, limit_s: float = 600) -> None:
        end_s = time.monotonic() + limit_s
        while (told := self.status())["state"] != "awake":
            if time.monotonic() > end_s:
                raise RuntimeError(f"does not wake: {told}; {self.log()[-20:]}")
            time.sleep(0.05)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with reading(self.folder / "state" / "wattnap.db") as db:
            return list(db.query(sql))

    def log(self) -> list[str]:
        return (self.folder / "daemon.log").read_text(errors="replace").splitlines()


@contextlib.contextmanager
def daemon(folder: Path, options: argparse.Namespace, *, bake: bool = False) -> Iterator[Running]:
    """It runs as `options` say (`add_engine_options`), and is at rest; afterwards it is ended.

    `bake`: unless it has something to bake, which it then does.
    """
    quote = json.dumps  # a JSON string is a TOML string
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "wattnap.toml"
    env = "\n".join(f"{k} = {quote(v)}" for k, v in (e.split("=", 1) for e in options.engine_env))
    config.write_text(
        CONFIG.format(
            state=quote(str(folder / "state")),
            run=quote(str(folder / "run")),
            python=quote(options.engine_python),
            model=quote(options.model),
            device=options.device,
            max_model_len=options.max_model_len,
            kv_mib=options.kv_mib or quote("auto"),
            max_running=options.max_running,
            eager="false" if options.graphs else "true",
            cache=quote(options.cache or str(folder / "cache")),
            args=quote(options.engine_arg),
            more="\n".join(options.engine_key),
            env=env,
            level="debug" if options.log else "info",
            bake="true" if bake else "false",
        )
    )
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "run", "--config", str(config)],
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    running = Running(folder, process)
    try:
        while not running.socket.exists():
            if process.poll() is not None:
                sys.exit("\n".join(running.log()))
            time.sleep(0.05)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if options.log:
            with options.log.open("a") as kept:
                kept.write("\n".join(running.log()) + "\n")
