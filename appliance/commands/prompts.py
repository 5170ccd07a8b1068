"""ask, submit, answer, cancel: prompts by way of the daemon's socket."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.commands.options import as_json, print_json, with_config
from appliance.errors import BadRequest

if TYPE_CHECKING:
    from appliance.commands.waiting import Waiting
    from appliance.config import Config
    from appliance.socket_client import Daemon, Event

LARGEST_FILE_BYTES = 64 * 1024 * 1024  # more than any configuration allows


@click.command()
@click.argument("text")
@as_json
@click.option("--model", metavar="ALIAS", help="Which model; the default is the only one.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens.")
@click.option(
    "--class", "klass", type=click.Choice(["interactive", "batch"]), default="interactive",
    show_default=True, help="batch: may wait until it is cheap to answer.",
)  # fmt: skip
@with_config
def ask(
    config: Config,
    text: str,
    json_: bool,
    model: str | None,
    max_tokens: int | None,
    klass: str,
) -> None:
    """Ask now and print the answer as it comes.

    Wakes the engine if it rests. TEXT may be - for standard input. Nothing is
    stored before it runs, and Ctrl-C takes it back; what must not get lost goes
    through `wattnap submit`.

    \b
    wattnap ask "Why is the sky blue?"
    git diff | wattnap ask - --max-tokens 200

    Exit codes: 0 answered · 65 the prompt was refused · 69 no daemon ·
    70 the engine failed · 75 try again later · 130 interrupted.
    """
    own = {"class": klass} | ({"model": model} if model else {})
    request: dict[str, Any] = {"prompt": _text(text), "stream": not json_, "wattnap": own}
    if max_tokens:
        request["max_tokens"] = max_tokens
    with _daemon(config) as daemon:
        _print_answer(daemon.call("ask", request=request), json_)


@click.command()
@click.argument("file")
@as_json
@click.option("--id", metavar="ID", help="Name of the request; the same one is never run twice.")
@click.option("--wait", is_flag=True, help="Stay until it is answered, and print the answer.")
@with_config
def submit(config: Config, file: str, json_: bool, id: str | None, wait: bool) -> None:
    """Hand over a prompt that must not get lost.

    Once this returns, it will be answered, whatever happens to the daemon.

    FILE holds plain text, or JSON with `prompt` or `messages` as in OpenAI's
    chat API; - is standard input. Prints the request's id.

    \b
    echo "Summarise the night's log" | wattnap submit - --id night-42
    wattnap submit question.json --wait

    Exit codes: 0 accepted (with --wait: answered) · 65 refused · 66 no such
    file · 69 no daemon · 70 given up · 75 not accepted, try again later.
    """
    request = _request(_text_of(file), file)
    with _daemon(config) as daemon:
        events = daemon.call("submit", request=request, id=id, wait=wait or None)
        _print_submitted(events, json_, wait=wait)


@click.command()
@click.argument("id")
@as_json
@click.option("--wait", is_flag=True, help="Stay until it is answered.")
@with_config
def answer(config: Config, id: str, json_: bool, wait: bool) -> None:
    """Print the answer of a prompt that was submitted before.

    \b
    wattnap answer night-42 --wait

    Exit codes: 0 answered, or still to come · 65 no such request of this user,
    or its answer is no longer kept · 69 no daemon · 70 given up.
    """
    with _daemon(config) as daemon:
        events = daemon.call("answer", id=id, wait=wait or None)
        _print_submitted(events, json_, wait=wait)


@click.command()
@click.argument("id")
@as_json
@with_config
def cancel(config: Config, id: str, json_: bool) -> None:
    """Take a prompt back that waits or runs.

    \b
    wattnap cancel night-42

    Exit codes: 0 cancelled · 65 unknown to this user, or it has ended · 69 no daemon.
    """
    with _daemon(config) as daemon:
        event = daemon.ask("cancel", id=id)
    if json_:
        print_json({"id": id, "cancelled": event["cancelled"]})
    if not event["cancelled"]:
        raise BadRequest(f"{id!r} is unknown or has ended; `wattnap requests` shows what ran")
    if not json_:
        click.echo(f"cancelled {id}")


COMMANDS = (ask, submit, answer, cancel)


def _daemon(config: Config) -> Daemon:
    from appliance.socket_client import Daemon

    return Daemon(config.socket_path)


def _text(argument: str) -> str:
    return _text_of("-") if argument == "-" else argument


def _text_of(file: str) -> str:
    try:
        content = (
            sys.stdin.buffer.read(LARGEST_FILE_BYTES) if file == "-" else Path(file).read_bytes()
        )
        return content.decode()
    except OSError as error:
        raise click.ClickException(f"{file}: {os.strerror(error.errno or 0)}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file}: not UTF-8 text: {error}") from error


def _request(text: str, file: str) -> object:
    """What the socket is sent: an object for JSON, as the other doors see it; else the text."""
    if text.lstrip()[:1] not in {"{", "["}:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{file}: not JSON: {error}") from error


def _print_submitted(events: Iterator[Event], json_: bool, *, wait: bool) -> None:
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
    _print_answer(_prepend(first, events), json_)


def _prepend(first: Event, events: Iterator[Event]) -> Iterator[Event]:
    yield first
    yield from events


def _print_answer(events: Iterator[Event], json_: bool) -> None:
    """Tell the progress on a terminal's stderr, the parts as they come, then what it took."""
    column = 0
    with contextlib.ExitStack() as stack:
        spinner = stack.enter_context(_spinner()) if sys.stderr.isatty() else None
        for event in events:
            match event["event"]:
                case "progress" if spinner:
                    spinner.say(_doing(event))
                case "part" if not json_:
                    stack.close()
                    if event["index"] == 0 and column:
                        click.echo("\n[the engine failed; from the beginning]", err=True)
                    click.echo(event["text"], nl=False)
                    column = 0 if event["text"].endswith("\n") else 1
                case "answer":
                    stack.close()
                    told = event["answer"]
                    if json_:
                        print_json(told)
                    elif column:
                        click.echo()
                    else:
                        _print_whole(told)
                    _conclude(told, quiet=json_)


def _print_whole(told: dict[str, Any]) -> None:
    """An answer that was not streamed, or nothing at all for a failure."""
    message = told.get("message") or {}
    text = told.get("text") or message.get("content")
    if text:
        click.echo(text)
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
        wake = f" + {energy['wake_j']:.1f} J to wake" if energy.get("wake_j") else ""
        words.append(f"{marginal_j:.1f} J{wake} ({energy.get('source')})")
    return " · ".join(words)


def _doing(event: Event) -> str:
    expected_s = event.get("expected_s")
    about = f", about {expected_s:.0f} s" if expected_s else ""
    return f"{event['state']}{about}"


def _spinner() -> Waiting:
    from rich.console import Console

    from appliance.commands.waiting import Waiting

    return Waiting(Console(stderr=True), "queued")
