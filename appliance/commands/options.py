"""Options that several commands share, and how they print."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from appliance.config import Config

Command = Callable[..., None]

as_json = click.option("--json", "json_", is_flag=True, help="Print one line of JSON.")

Form = Literal["people", "json", "csv"]


def as_data(command: Command) -> Command:
    """Give the command `form`: for whom it prints."""
    told: dict[Form, str] = {
        "csv": "Print CSV; an empty cell was not measured.",
        "json": "Print one line of JSON.",
    }
    for form, help in told.items():
        option: Callable[[Command], Command] = click.option(
            f"--{form}", "form", flag_value=form, default="people", help=help
        )
        command = option(command)
    return command


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


def print_csv(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A line of headings and one for each row, in UTF-8 whatever the terminal's encoding is."""
    click.echo(csv_lines([names, *([row[name] for name in names] for row in rows)]), nl=False)


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """As RFC 4180 has it, but with the line ends of Unix. None is an empty cell."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def json_lines(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """An object on each line."""
    import msgspec

    return msgspec.json.Encoder().encode_lines(dict(zip(names, row, strict=True)) for row in rows)
