"""ask, submit, answer, cancel: prompts by way of the daemon's socket."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.commands.answers import print_answer, print_submitted
from appliance.commands.options import as_json, print_json, with_config
from appliance.commands.texts import TEXT
from appliance.errors import BadRequest

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.socket_client import Daemon

LARGEST_FILE_BYTES = 64 * 1024 * 1024  # more than any configuration allows


@click.command()
@click.argument("text", type=TEXT)
@as_json
@click.option(
    "--model", metavar="ALIAS", type=TEXT, help="Which model; the default is the only one."
)
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
    wattnap ask "turn on the light in the kitchen"
    git diff | wattnap ask - --max-tokens 200    # a larger model than the one in the box

    Exit codes: 0 answered · 65 the prompt was refused · 69 no daemon ·
    70 the engine failed · 75 try again later · 130 interrupted.
    """
    own = {"class": klass} | ({"model": model} if model else {})
    request: dict[str, Any] = {"prompt": _text(text), "stream": not json_, "wattnap": own}
    if max_tokens:
        request["max_tokens"] = max_tokens
    with _daemon(config) as daemon:
        print_answer(daemon.call("ask", request=request), json_)


@click.command()
@click.argument("file")
@as_json
@click.option(
    "--id", metavar="ID", type=TEXT, help="Name of the request; the same one is never run twice."
)
@click.option("--wait", is_flag=True, help="Stay until it is answered, and print the answer.")
@with_config
def submit(config: Config, file: str, json_: bool, id: str | None, wait: bool) -> None:
    """Hand over a prompt that must not get lost.

    Once this returns, it will be answered, whatever happens to the daemon.

    FILE holds plain text, or JSON with `prompt` or `messages` as in OpenAI's
    chat API; - is standard input. Prints the request's id.

    \b
    echo "set the heating to 19 degrees" | wattnap submit - --id night-42
    wattnap submit question.json --wait

    Exit codes: 0 accepted (with --wait: answered) · 65 refused · 66 no such
    file · 69 no daemon · 70 given up · 75 not accepted, try again later.
    """
    request = _request(_text_of(file), file)
    with _daemon(config) as daemon:
        events = daemon.call("submit", request=request, id=id, wait=wait or None)
        print_submitted(events, json_, wait=wait)


@click.command()
@click.argument("id", type=TEXT)
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
        print_submitted(events, json_, wait=wait)


@click.command()
@click.argument("id", type=TEXT)
@click.option("--door", type=click.Choice(["socket", "mqtt"]), default="socket", show_default=True)
@click.option(
    "--client", type=TEXT, help="Who sent it. [default: you; on MQTT whoever gave no name]"
)
@as_json
@with_config
def cancel(config: Config, id: str, door: str, client: str | None, json_: bool) -> None:
    """Take a prompt back that waits or runs.

    \b
    wattnap cancel night-42
    wattnap cancel --door mqtt 0199c8b2-…

    Exit codes: 0 cancelled · 65 unknown to this user, or it has ended · 69 no daemon.
    """
    with _daemon(config) as daemon:
        event = daemon.ask("cancel", id=id, door=door, client=client)
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
    except (ValueError, RecursionError) as error:  # the latter: nested too deep to be read
        raise BadRequest(f"{file}: not JSON: {error}") from error
