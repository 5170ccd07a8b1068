"""`wattnap demo`: the whole way of a prompt, on a broker and an engine of its own.

Three prompts over MQTT: the first wakes the engine, the second finds it awake,
the third comes after it has rested. Everything is started in a temporary folder
and stopped again, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from appliance.commands.options import print_json
from appliance.commands.tables import Row, numbers, words
from appliance.demo import wire as demo_wire
from appliance.demo.child import Child, ChildFailed, running
from appliance.demo.folders import check_model, folders
from appliance.demo.mosquitto import broker
from appliance.demo.narrator import Narrator
from appliance.demo.settings import Parts, idle_timeout_s, settings
from appliance.demo.story import Story
from appliance.errors import ApplianceError, alone_in
from appliance.storage.reading import copy, reading

INTERRUPTED = 130
LEDGER = "demo-ledger.db"
SHARES = (
    "J is what it drew itself. A wake's joules are shared equally by all who are served before the"
    " next rest, also by who did not wait for it."
)
GUESSES = (
    'What came with an answer, as "about", was a first guess. The ledger is right later: what was'
    " counted is shared when the engine rests again (docs/energy.md)."
)


class Result(Struct, kw_only=True):
    """What `--json` prints.

    energy_j  of an answer: its own and its share of the wake
    ledger    the database, which stays; None if the demo did not come that far
    """

    ok: bool = False
    answers: list[dict[str, Any]] = []  # JSON
    wakes: int = 0
    rests: int = 0
    energy_j_by_depth: dict[str, float | None] = {}
    engine: dict[str, Any] = {}  # JSON
    ledger: str | None = None
    error: str | None = None


def show(parts: Parts, *, as_json: bool) -> int:
    """Run the demo and print its result. Returns the exit code."""
    narrator = Narrator(to_stderr=as_json)
    result = Result()
    status = asyncio.run(_guarded(parts, narrator, result))
    narrator.close()
    if as_json:
        told = asdict(result)
        print_json({k: v for k, v in told.items() if k != "error" or v is not None})
    return status


async def _guarded(parts: Parts, narrator: Narrator, result: Result) -> int:
    """Play it; turn what ends it into words and an exit code."""
    task = asyncio.current_task()
    assert task is not None
    told_to_stop = False

    def stop() -> None:
        # A second Ctrl-C must not break off what the first one cleans up.
        nonlocal told_to_stop
        if not told_to_stop:
            told_to_stop = True
            narrator.waits("stopping everything")
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await _play(parts, narrator, result)
    except asyncio.CancelledError:
        result.error = "interrupted"
        return INTERRUPTED
    except ApplianceError as error:
        return _failed(error, narrator, result)
    except BaseExceptionGroup as group:
        alone = alone_in(group)
        if not isinstance(alone, ApplianceError):
            raise
        return _failed(alone, narrator, result)
    result.ok = True
    return os.EX_OK


def _failed(error: ApplianceError, narrator: Narrator, result: Result) -> int:
    result.error = str(error)
    narrator.failed(result.error)
    return error.exit_status


async def _play(parts: Parts, narrator: Narrator, result: Result) -> None:
    if parts.model is not None:
        check_model(parts.model)
    with folders(parts.keep) as (folder, runtime):
        config = folder / "wattnap.toml"
        async with contextlib.AsyncExitStack() as stack:
            narrator.title("A broker and the daemon, just for this")
            private = await stack.enter_async_context(broker(parts.mosquitto, folder / "broker"))
            narrator.note(f"mosquitto on {private.host}:{private.port}, everything in {folder}")
            config.write_text(settings(parts, private, folder, runtime))
            command = [sys.executable, "-m", "appliance", "--config", str(config), "run"]
            daemon = await stack.enter_async_context(
                running("the daemon", command, folder / "daemon.log")
            )
            wire = await stack.enter_async_context(demo_wire.connected(private, "wattnap/demo"))
            story = Story(
                wire,
                narrator,
                result,
                idle_timeout_s=idle_timeout_s(parts),
            )
            try:
                await _while_alive(story, (daemon, private.child))
            except (ApplianceError, BaseExceptionGroup):
                narrator.quote(daemon.last_words)
                raise
            narrator.waits("stopping the daemon and the broker")
        _account(folder / "state" / "wattnap.db", parts, narrator, result)


async def _while_alive(story: Story, children: tuple[Child, ...]) -> None:
    """Raises ChildFailed when one of them ends before the story does."""
    async with asyncio.TaskGroup() as tasks:
        watches = [tasks.create_task(child.ended()) for child in children]
        try:
            await story.tell()
        finally:
            for watch in watches:
                watch.cancel()


def _account(database: Path, parts: Parts, narrator: Narrator, result: Result) -> None:
    """The daemon has stopped: the ledger is complete. Put it where it stays, and read it."""
    left = [pid for pid in result.engine.get("pids", []) if Path(f"/proc/{pid}").exists()]
    if left:
        raise ChildFailed(f"processes of the engine are still there: {left}")
    kept = database
    if parts.keep is None:
        parts.cache.mkdir(parents=True, exist_ok=True)
        kept = parts.cache / LEDGER
        copy(database, kept)
    result.ledger = str(kept)
    with reading(kept) as book:
        rows = {row["id"]: row for row in book.query("SELECT * FROM requests")}
        by_depth = list(book.query("SELECT * FROM energy_by_depth"))
        result.wakes = len(list(book.query("SELECT at FROM wakes WHERE outcome = 'ok'")))
    for answer in result.answers:
        row = rows[answer["id"]]
        shares = [row[key] for key in ("marginal_j", "wake_j") if row[key] is not None]
        answer["energy_j"] = sum(shares) if shares else None
        answer["energy_source"] = row["energy_source"]
    for row in by_depth:
        if row["energy_j"] is not None:
            known = result.energy_j_by_depth.get(row["depth"]) or 0.0
            result.energy_j_by_depth[row["depth"]] = known + row["energy_j"]
    _tell_bill(by_depth, list(rows.values()), narrator, kept)


def _tell_bill(
    by_depth: Sequence[Row], rows: Sequence[Row], narrator: Narrator, kept: Path
) -> None:
    narrator.title("What was asked")
    narrator.table(
        [
            words("id", rows, "id"),
            numbers("wake s", rows, "wake_s"),
            numbers("first token s", rows, "ttft_s"),
            numbers("total s", rows, "total_s"),
            numbers("tokens", rows, "completion_tokens"),
            numbers("J", rows, "marginal_j"),
            numbers("share of the wake, J", rows, "wake_j"),
        ]
    )
    narrator.note(SHARES)
    narrator.note(GUESSES)
    narrator.title("Where the joules went")
    narrator.table(
        [
            words("depth", by_depth, "depth"),
            words("doing", by_depth, "line"),
            numbers("s", by_depth, "seconds"),
            numbers("J", by_depth, "energy_j"),
            numbers("s not measured", by_depth, "unmeasured_s", rank=1),
            words("source", by_depth, "source", rank=2),
        ]
    )
    if any("estimate" in (row["source"] or "") for row in by_depth):
        narrator.note("estimate: computed from CPU time; no meter has measured it")
    narrator.note(f"the ledger stays in {kept}; every SQLite tool can open it")
    narrator.title("What to do next")
    narrator.note("have it for good, on Debian or Ubuntu with systemd (docs/install.md):")
    narrator.note("  sudo ./install.sh install")
