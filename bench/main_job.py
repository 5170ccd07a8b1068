"""The main job on this machine's own engine: wake, answer, idle, rest; and what each cost.

    python -m bench.main_job --engine-python PATH --model DIR [--engine-env NAME=VALUE …]

Needs no broker. Two wakes, some answers, an idle stretch awake and one at rest,
as the ledger booked them. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from appliance.reading import reading
from appliance.socket_client import Daemon
from bench.rig import machine, report

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
enforce_eager = true
max_running = 16
args = {args}
[engine.env]
{env}
[power]
idle_timeout_s = 3600
"""


def ask(path: Path, text: str, tokens: int) -> dict[str, Any]:
    request = {"prompt": text, "max_tokens": tokens, "stream": True, "ignore_eos": True}
    with Daemon(path) as daemon:
        *_, last = daemon.call("ask", request=request)
    answer: dict[str, Any] = last["answer"]
    return answer


def wait_until(path: Path, state: str) -> None:
    while True:
        with Daemon(path) as daemon:
            (told,) = daemon.call("status")
        if told["status"]["state"] == state:
            return
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", default=sys.executable)
    parser.add_argument("--engine-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--engine-arg", action="append", default=[])
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--kv-mib", type=int, default=1024)
    parser.add_argument("--max-model-len", type=int, default=2048, help="0: the model's own")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--idle", type=float, default=40.0, help="seconds awake and idle")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="main-job"))
    quote = json.dumps  # a JSON string is a TOML string
    env = "\n".join(f"{k} = {quote(v)}" for k, v in (e.split("=", 1) for e in options.engine_env))
    config = folder / "wattnap.toml"
    config.write_text(
        CONFIG.format(
            state=quote(str(folder / "state")),
            run=quote(str(folder / "run")),
            python=quote(options.engine_python),
            model=quote(options.model),
            device=options.device,
            kv_mib=options.kv_mib,
            max_model_len=options.max_model_len,
            args=quote(options.engine_arg),
            env=env,
        )
    )
    socket = folder / "run" / "wattnap.sock"
    log = (folder / "daemon.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "appliance", "run", "--config", str(config)],
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        ) as daemon,
    ):
        try:
            while not socket.exists():
                if daemon.poll() is not None:
                    sys.exit((folder / "daemon.log").read_text())
                time.sleep(0.1)
            answers = [ask(socket, "Why is the sky blue?", options.tokens) for _ in range(3)]
            with Daemon(socket) as connection:
                (status,) = connection.call("status")
            time.sleep(options.idle)
            with Daemon(socket) as connection:
                list(connection.call("rest"))
            wait_until(socket, "asleep")
            answers.append(ask(socket, "And at night?", options.tokens))
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
    with reading(folder / "state" / "wattnap.db") as db:
        views = {
            name: list(db.query(f"SELECT * FROM {name}"))
            for name in ("wakes", "energy_by_depth", "requests")
        }
    idle = [r for r in views["energy_by_depth"] if (r["depth"], r["line"]) == ("awake", "idle")]
    report(
        {
            "bench": "main_job",
            "machine": machine(),
            "engine": {k: status["status"][k] for k in ("version", "pids")},
            "answers": [{k: a[k] for k in ("usage", "energy", "timing")} for a in answers],
            "awake_idle_w": idle
            and idle[0]["energy_j"]
            and idle[0]["energy_j"] / idle[0]["seconds"],
            "log": (folder / "daemon.log").read_text().splitlines()[-15:],
        }
        | msgspec.to_builtins(views)
    )


if __name__ == "__main__":
    main()
