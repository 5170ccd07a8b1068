"""What an idle daemon costs: memory, wake-ups, CPU; connected to a broker, engine off.

    python -m bench.idle --seconds 60

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

import psutil

from appliance.socket_client import Daemon
from bench.rig import machine, report, rig
from tests.brokers import free_port

SETTLE_S = 5.0
CLIENTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--http", action="store_true", help="with its HTTP door, used and kept open"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="idle"))
    http = f"127.0.0.1:{free_port()}" if options.http else ""
    with rig(folder, idle_timeout_s=1.0, keep_alive_s=60, http=http) as made:
        made.start_daemon()
        with Daemon(made.socket) as daemon:  # every path has been used once
            list(daemon.call("ask", request="hello there"))
        kept = [asked(http) for _ in range(CLIENTS)] if http else []
        time.sleep(SETTLE_S)
        assert made.daemon is not None
        process = psutil.Process(made.daemon.pid)
        switches, cpu = process.num_ctx_switches().voluntary, process.cpu_times()
        threads_before = switches_of_all_threads(process.pid)
        time.sleep(options.seconds)
        after, cpu_after = process.num_ctx_switches().voluntary, process.cpu_times()
        threads_after = switches_of_all_threads(process.pid)
        memory = process.memory_full_info()
        result = {
            "seconds": options.seconds,
            "rss_mib": round(memory.rss / 2**20, 1),
            "pss_mib": round(memory.pss / 2**20, 1),
            "voluntary_switches_per_s": round((after - switches) / options.seconds, 3),
            "all_threads_per_s": round((threads_after - threads_before) / options.seconds, 3),
            "cpu_share": round(
                (cpu_after.user + cpu_after.system - cpu.user - cpu.system) / options.seconds, 5
            ),
            "threads": process.num_threads(),
            "descriptors": process.num_fds(),
        }
        for connection in kept:
            connection.close()
        made.stop_daemon()
    report({"bench": "idle", "http": options.http, "machine": machine()} | result)


def asked(http: str) -> HTTPConnection:
    """Somebody who has been answered over HTTP, and stays connected."""
    connection = HTTPConnection(http)
    for stream in (False, True):
        message = {"role": "user", "content": "hello there"}
        body = {"model": "main", "messages": [message], "stream": stream}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        assert b"hello" in connection.getresponse().read()
    return connection


def switches_of_all_threads(pid: int) -> int:
    """Voluntary context switches of the process and all its threads."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


if __name__ == "__main__":
    main()
