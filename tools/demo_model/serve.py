"""Scores a checkpoint through a running vLLM server: its kernels, its chat door, its latency.

    python tools/demo_model/serve.py SOCKET --sets dev final --total 1000 --json OUT

Standard library only, so that it runs in the engine's own Python or the daemon's.
"""

import argparse
import http.client
import json
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.demo_model.actions import Action, parse_action, schema
from tools.demo_model.grammar import Grammar
from tools.demo_model.templates import DATA

TEST_SEED = 20261121


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def ask(connection: UnixConnection, command: str, form: dict[str, Any] | None) -> tuple[str, float]:
    """The answer's text and the seconds it took. `form` is the response_format, if any."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": command}],
        "temperature": 0,
        "max_tokens": 32,
    }
    if form:
        body["response_format"] = form
    begun_s = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    return answer["choices"][0]["message"]["content"], time.perf_counter() - begun_s


def cases(name: str, total: int) -> list[tuple[str, Action]]:
    """A hand-written set by name, or `total` commands of "test" templates, "spoiled" or not."""
    if name in ("test", "spoiled"):
        source = Grammar(TEST_SEED, fold="test", noisy=name == "spoiled")
        found: dict[str, Action] = {}
        while len(found) < total:
            sentence, action = source.draw()
            found.setdefault(sentence, action)
        return list(found.items())
    lines = (DATA / f"freehand_{name}.txt").read_text().splitlines()
    pairs = [line.rsplit(" | ", 1) for line in lines if line and not line.startswith("#")]
    return [(command, parse_action(words)) for command, words in pairs]


def main() -> None:
    """Score the sets, with and without the JSON schema if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("--sets", nargs="+", default=["dev"])
    parser.add_argument("--total", type=int, default=1000)
    parser.add_argument("--schema", action="store_true", help="ask with response_format")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    form = {"type": "json_schema", "json_schema": {"name": "action", "schema": schema()}}
    connection = UnixConnection(args.socket)
    # The first answers compile kernels and, with a schema, its grammar.
    for _ in range(5):
        ask(connection, "lights on", form if args.schema else None)
    report: dict[str, Any] = {}
    for name in args.sets:
        times_s, wrong = [], []
        asked = cases(name, args.total)
        for command, action in asked:
            line, elapsed_s = ask(connection, command, form if args.schema else None)
            times_s.append(elapsed_s)
            if line != action.to_json():
                wrong.append((command, action.to_json(), line))
        p50_s, p95_s = statistics.median(times_s), statistics.quantiles(times_s, n=20)[18]
        right = len(asked) - len(wrong)
        print(
            f"{name:10s} {right} of {len(asked)} = {100 * right / len(asked):.1f} %   "
            f"p50 {p50_s:.4f} s  p95 {p95_s:.4f} s",
            flush=True,
        )
        report[name] = {
            "total": len(asked),
            "right": right,
            "p50_s": round(p50_s, 4),
            "p95_s": round(p95_s, 4),
            "schema": args.schema,
            "wrong": [] if name in ("final", "fresh") else wrong,
        }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
