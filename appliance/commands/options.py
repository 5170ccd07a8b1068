"""Options that several commands share, and how they print."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from appliance.config import Config

Command = Callable[..., None]

as_json = click.option("--json", "json_", is_flag=True, help="Print one line of JSON.")


def with_config(command: Command) -> Command:
    """Give the command `config`, from its own `--config` or the one before its name."""

    def found(outer: str | None, /, path: str | None, **others: Any) -> None:  # the command's own
        command(config=load(path or outer), **others)

    functools.update_wrapper(found, command)
    given = click.option("--config", "path", metavar="FILE", help="As `wattnap --config FILE`.")
    return given(click.pass_obj(found))


def load(path: str | None) -> Config:
    """Raises ConfigError."""
    from appliance.config import find

    return find(path)


def print_json(value: object) -> None:
    """One line on stdout, in UTF-8 whatever the terminal's encoding is."""
    import msgspec

    click.echo(msgspec.json.encode(value))
