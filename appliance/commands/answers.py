"""Prints what the daemon tells about a prompt: progress, parts, the answer, what it took."""

from __future__ import annotations

import contextlib
import itertools
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from appliance.commands.options import print_json

if TYPE_CHECKING:
    from appliance.commands.waiting import Waiting
    from appliance.socket_client import Event


def print_submitted(events: Iterator[Event], json_: bool, *, wait: bool) -> None:
    first = next(events)
    if first["event"] == "queued" and not wait:
        told = {key: first[key] for key in ("id", "state", "repeated")}
        if json_:
            print_json(told)
        else:
            click.echo(f"{first['id']}  {first['state']}")
        return
    if first["event"] == "queued" and sys.stderr.isatty():
        click.echo(f"queued as {first['id']}; it is answered even if this is interrupted", err=True)
    print_answer(itertools.chain([first], events), json_)


def print_answer(events: Iterator[Event], json_: bool) -> None:
    """Tell the progress on a terminal's stderr, the parts as they come, then what it took."""
    streamed = ""
    with contextlib.ExitStack() as stack:
        spinner = stack.enter_context(_spinner()) if sys.stderr.isatty() else None
        # Also before an error: it stands on a line of its own.
        stack.callback(lambda: _end_line(streamed))
        for event in events:
            match event["event"]:
                case "progress" if spinner:
                    spinner.say(_doing(event))
                case "part" if not json_:
                    if spinner:
                        spinner.stop()
                    if event["index"] == 0 and streamed:
                        click.echo("\n[the engine failed; from the beginning]", err=True)
                    streamed += event["text"]
                    click.echo(_harmless(event["text"]), nl=False)
                case "answer":
                    stack.close()
                    told = event["answer"]
                    if json_:
                        print_json(told)
                    elif not streamed:
                        _print_whole(told)
                    _conclude(told, quiet=json_)


def _end_line(streamed: str) -> None:
    if streamed and not streamed.endswith("\n"):
        click.echo()


def _harmless(text: str) -> str:
    """Without what a terminal would obey. A file gets every character."""
    if not sys.stdout.isatty():
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def _print_whole(told: dict[str, Any]) -> None:
    """An answer that was not streamed, or nothing at all for a failure."""
    message = told.get("message") or {}
    text = told.get("text") or message.get("content")
    if text:
        click.echo(_harmless(text))
    elif message:
        print_json(message)


def _conclude(told: dict[str, Any], *, quiet: bool) -> None:
    from appliance.socket_client import reported

    if error := told.get("error"):
        raise reported(error)
    if not quiet and sys.stderr.isatty():
        click.secho(summary(told), dim=True, err=True)


def summary(told: dict[str, Any]) -> str:
    """What an answer took, in a line. What was not measured is not mentioned."""
    timing, energy = told.get("timing", {}), told.get("energy", {})
    words = []
    if tokens := told.get("usage", {}).get("completion_tokens"):
        words.append(f"{tokens} tokens")
    if wake_s := timing.get("wake_s"):
        words.append(f"woke in {wake_s:.1f} s")
    if (ttft_s := timing.get("ttft_s")) is not None:
        words.append(f"first token after {ttft_s:.2f} s")
    if (marginal_j := energy.get("marginal_j")) is not None:
        about = "" if energy.get("final") else "about "
        wake = f" + {energy['wake_j']:.1f} J of the wake" if energy.get("wake_j") else ""
        words.append(f"{about}{marginal_j:.1f} J{wake} ({energy.get('source')})")
    return " · ".join(words)


def _doing(event: Event) -> str:
    expected_s = event.get("expected_s")
    about = f", about {expected_s:.0f} s" if expected_s else ""
    return f"{event['state']}{about}"


def _spinner() -> Waiting:
    from rich.console import Console

    from appliance.commands.waiting import Waiting

    return Waiting(Console(stderr=True), "queued")
