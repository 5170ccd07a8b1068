"""calibrate, why: what the ladder costs here, and what is decided by that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.tables import Column, Row, cell, numbers, print_table, words
from appliance.commands.terminal import say

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.socket_client import Event

GB = 1e9


@click.command()
@click.option("--again", is_flag=True, help="Also what was measured before.")
@click.option(
    "--cycles", type=click.IntRange(1, 50), default=3, show_default=True,
    help="How often each rung is gone to and woken from.",
)  # fmt: skip
@click.option(
    "--over", "over_s", metavar="S", type=click.FloatRange(5, 600), default=60, show_default=True,
    help="Watts at rest are the mean over S seconds.",
)  # fmt: skip
@as_json
@with_config
def calibrate(config: Config, json_: bool, again: bool, cycles: int, over_s: float) -> None:
    """Measure what each rung of the ladder costs on this machine.

    Watts at rest, seconds and joules of the way down and up, memory held: the
    daemon decides by these instead of by guesses. Ten minutes and more on a
    GPU; prompts are answered meanwhile. Ctrl-C ends it: what is measured by
    then is kept, and the next one goes on from there.

    \b
    wattnap calibrate
    wattnap calibrate --cycles 10 --again --json

    Exit codes: 0 it is measured · 69 no daemon · 70 it failed, or was stopped ·
    130 interrupted.
    """
    from appliance.socket_client import Daemon

    event: Event = {}
    with Daemon(config.socket_path) as daemon, _bar() as show:
        for event in daemon.call("calibrate", again=again, cycles=cycles, over_s=over_s):
            if not json_ and event["event"] == "calibrating":
                show(event)
    told = {key: value for key, value in event.items() if key not in {"event", "tag"}}
    if json_:
        print_json(told)
        return
    print_ladder(told)


@click.command()
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True)
@as_json
@with_config
def why(config: Config, json_: bool, limit: int) -> None:
    """Say what it will do next, what it has done lately, and why.

    The timetable in force, the latest decisions since the daemon started, and
    the latest moves of the ledger.

    \b
    wattnap why
    wattnap why --json | jq .timetable

    Exit codes: 0 the daemon runs · 69 it does not.
    """
    from appliance.socket_client import Daemon

    with Daemon(config.socket_path) as daemon:
        told = daemon.ask("why", limit=limit)["why"]
    if json_:
        print_json(told)
        return
    state, depth = told["state"], told["depth"]
    where = state if depth in {state, "awake"} else f"{state}, {depth}"
    say(f"{where} since {cell('at', told['since'])}")
    say(timetable(told))
    if told["decisions"]:
        say("\nDecided:")
        print_table(decisions(told["decisions"]))
    if told["transitions"]:
        say("\nMoved:")
        print_table(moves(told["transitions"]))


COMMANDS = (calibrate, why)

STEPS = {
    "waiting": "waiting for the bake to end",
    "starting": "starting the engine",
    "resting": "at rest, {depth}: waiting for level watts",
    "down": "on the way down, {depth}",
    "up": "on the way up, from {depth}",
    "as shipped": "without the boost switch, to see what that saves",
}


@contextmanager
def _bar() -> Iterator[Any]:  # a function of an event
    """On a terminal, how much is done; else a line for each step."""
    if not sys.stderr.isatty():
        yield lambda event: say(f"{event['seconds']:6.0f} s  {doing(event)}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(event: Event) -> None:
            done_s, left_s = event["seconds"], event["left_s"]
            total = max(1.0, done_s + left_s) if left_s else None  # not known yet
            progress.update(task, completed=done_s, total=total, description=doing(event))

        yield show


def doing(event: Event) -> str:
    step: str = event["step"]
    return STEPS.get(step, step).format(depth=event.get("depth", ""))


def print_ladder(told: dict[str, Any]) -> None:
    """The prices, when each rung pays, and what the policy will do."""
    print_table(ladder([ladder_row(rung) for rung in told["rungs"]]))
    if (boost_w := told.get("boost_w")) is not None:
        say(f"as vLLM ships, without the boost switch: {boost_w:.0f} W more, awake and idle")
    say(plan(told))
    if not told["measured"]:
        say("no meter: watts and joules are not known, only seconds and bytes", err=True)
    elif told["estimated"]:
        say("watts are estimates from CPU time: no meter has measured them", err=True)


def ladder(rows: list[Row]) -> list[Column]:
    return [
        words("depth", rows, "depth"),
        numbers("W", rows, "power"),
        numbers("settles s", rows, "settle", rank=5),
        numbers("down s", rows, "enter_s", rank=1),
        numbers("J down", rows, "enter_j", rank=3),
        numbers("up s", rows, "wake_s"),
        numbers("9 of 10", rows, "wake_p90_s", rank=4),
        numbers("J up", rows, "wake_j", rank=2),
        numbers("GB of GPU", rows, "vram", rank=2),
        numbers("GB of RAM", rows, "ram", rank=2),
        numbers("pays after", rows, "pays"),
    ]


def decisions(rows: list[Row]) -> list[Column]:
    return [words("at", rows, "at"), words("it", rows, "did"), words("because", rows, "why")]


def moves(rows: list[Row]) -> list[Column]:
    return [
        words("at", rows, "at"),
        words("from", rows, "from_depth"),
        words("to", rows, "to_depth"),
        words("cause", rows, "cause", rank=1),
        numbers("s", rows, "seconds"),
        numbers("J", rows, "energy_j", rank=1),
        words("outcome", rows, "outcome", rank=2),
    ]


def ladder_row(rung: dict[str, Any]) -> dict[str, Any]:
    power_w, settle_s = rung["power_w"], rung["settle_s"]
    pays = None
    if rung["saves_w"] is not None:
        pays = span(rung["breakeven_s"]) if rung["breakeven_s"] is not None else "never"
    return {
        **rung,
        "power": None if power_w is None else f"{power_w:.1f} ± {rung['spread_w']:.1f}",
        "settle": None if settle_s is None else f"{settle_s:.0f}",
        "vram": _gb(rung["vram_bytes"]),
        "ram": _gb(rung["ram_bytes"]),
        "pays": pays,
    }


def plan(told: dict[str, Any]) -> str:
    """What the policy makes of it."""
    rests = [step for step in told["timetable"] if step["depth"] != "awake" or step["after_s"]]
    words = ", ".join(f"{step['depth']} after {span(step['after_s'])}" for step in rests)
    return f"policy {told['policy']}: {words or 'stays awake'}"


def timetable(told: dict[str, Any]) -> str:
    """The one in force."""
    steps = told["timetable"][1:] or told["timetable"]
    if not told["by"]:
        return "no timetable: it is not idle, or has not been since it started"
    words = ", ".join(f"{step['depth']} at {cell('at', step['at'])}" for step in steps)
    return f"{told['by']}: {words}"


def span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _gb(size: int | None) -> str | None:
    return None if size is None else f"{size / GB:.1f}"
