"""What the tests of this folder do with an installation: send, hold, wait, account."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.rig import Rig

BASE = "wattnap/rig"
FILTERS = tuple(f"{BASE}/{each}" for each in ("status/#", "response/#", "availability"))
"""For a sender: without its own prompts. What is published before `online` is nobody's."""


def held(folder_of: Rig) -> None:
    """From the next start of the engine on, answers wait for `let_go`."""
    folder_of.switches = ("--gate", str(folder_of.folder / "gate"))


def let_go(made: Rig) -> None:
    (made.folder / "gate").touch()


async def until(true: Callable[[], object], *, within_s: float = 15) -> float:
    """Seconds that it took. For what nothing tells us of: another process's files."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def say_all(made: Rig, **line: Any) -> list[dict[str, Any]]:
    """One line to the socket, and all that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(made.socket), limit=1 << 20)
    writer.write(json.dumps(line).encode() + b"\n")
    writer.write_eof()
    async with asyncio.timeout(15):
        told = (await reader.read()).splitlines()
    writer.close()
    await writer.wait_closed()
    return [json.loads(each) for each in told]


async def say(made: Rig, **line: Any) -> dict[str, Any]:
    """The last of `say_all`."""
    return (await say_all(made, **line))[-1]


async def submit(made: Rig, id: str, text: str) -> dict[str, Any]:
    return await say(made, op="submit", request=text, id=id)


def runs(made: Rig) -> Counter[str]:
    """How often the engine was given each prompt, by its first word."""
    if not made.engine_log.exists():
        return Counter()
    lines = made.engine_log.read_text().splitlines()
    return Counter(json.loads(line.split(" ", 1)[1]).split()[0] for line in lines)


def unfinished(made: Rig) -> list[str]:
    found = made.query("SELECT id FROM inbox WHERE state IN ('waiting', 'running')")
    return [row["id"] for row in found]


def attempts(made: Rig) -> dict[str, int]:
    """Of each request; all of them are done, and each has one row in the ledger."""
    rows = made.query(
        "SELECT id, state, attempts,"
        " (SELECT count(*) FROM ledger_request WHERE request = inbox.seq) AS told FROM inbox"
    )
    assert {(row["state"], row["told"]) for row in rows} == {("done", 1)}
    return {row["id"]: row["attempts"] for row in rows}
