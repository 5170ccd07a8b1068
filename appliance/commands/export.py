"""ledger export, ledger backup: the log for other programs, and all of it as a file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands import spans, terminal
from appliance.commands.options import csv_lines, json_lines, with_config

if TYPE_CHECKING:
    from appliance.config import Config

TABLES = ("requests", "wakes", "energy", "request-hours", "meters")


@click.group("ledger")
def ledger() -> None:
    """Take the log elsewhere.

    It is a SQLite file; every SQLite tool can read it, also while the daemon
    writes. `wattnap ledger export` is for all others, `wattnap ledger backup` for
    the day on which it is gone.

    \b
    wattnap ledger export --help

    Exit codes: 0 fine · 69 there is no database.
    """


@ledger.command()
@click.argument("table", type=click.Choice(TABLES), default="requests")
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]),
    help="Else by the name of FILE; else csv.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of standard output; a file is there only once it is whole.",
)  # fmt: skip
@spans.span_options
@with_config
def export(
    config: Config,
    table: str,
    form: str | None,
    output: Path | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Print a table as CSV, or as a line of JSON for each row.

    TABLE is `requests` (one row each), `wakes`, `energy` (joules by hour, line
    and depth), `request-hours` (requests counted by the hour) or `meters` (what
    each meter has counted, by hour and rail). Instants are UTC. An empty cell,
    null in JSON, was not measured. Columns: docs/energy.md.

    \b
    wattnap ledger export > requests.csv
    wattnap ledger export energy --since 2026-01-01 -o energy.jsonl
    wattnap ledger export requests --format jsonl | jq .full_j

    Exit codes: 0 fine · 64 wrong usage · 66 FILE cannot be written · 69 there
    is no database · 74 standard output cannot be written.
    """
    from appliance.reports.export import TABLES, names, pieces
    from appliance.storage.reading import opened

    if form is None:
        form = "jsonl" if output is not None and output.suffix == ".jsonl" else "csv"
    period = spans.span(since, until)
    with opened(config.database) as connection, _written(output) as write:
        columns = names(connection, TABLES[table])
        count = 0
        if form == "csv":
            write(csv_lines([columns]))
        for rows in pieces(connection, TABLES[table], period):
            write(csv_lines(rows) if form == "csv" else json_lines(columns, rows))
            count += len(rows)
    if output is not None and sys.stderr.isatty():
        terminal.say(f"{count} rows are in {output}", err=True)


@ledger.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@with_config
def backup(config: Config, file: Path) -> None:
    """Copy the whole database to FILE, also while the daemon writes.

    With prompts and answers, waiting ones included, so FILE is for you alone. It
    has its name once it is whole, and no other file is overwritten. How to put it
    back: docs/operations.md.

    \b
    sudo wattnap ledger backup /srv/backup/wattnap-$(date +%F).db

    Exit codes: 0 fine · 66 FILE cannot be written · 69 there is no database.
    """
    from appliance.storage.reading import copy

    whole, part = _places(file)
    try:
        if os.path.lexists(whole):
            raise FileExistsError(errno.EEXIST, "it is there already")
        part.open("wb").close()  # tells in plain words whether it can be written at all
        os.umask(0o077)
        copy(config.database, part)
        part.rename(whole)
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if sys.stderr.isatty():
        terminal.say(f"{file}: {file.stat().st_size} bytes", err=True)


COMMANDS = (ledger,)


@contextlib.contextmanager
def _written(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Standard output, or a file that has its name once it is whole."""
    if path is None:
        yield lambda piece: click.echo(piece, nl=False)
        return
    try:
        if _takes_it_straight(path):
            with path.open("wb") as file:
                yield file.write
            return
        whole, part = _places(path)
        try:
            with part.open("wb") as file:
                yield file.write
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads has enough
            raise
        raise click.FileError(str(path), error.strerror) from error


def _places(path: Path) -> tuple[Path, Path]:
    """Where a file is to be, since a link stays one; and where it is until it is whole."""
    whole = Path(os.path.realpath(path))
    return whole, whole.with_name(f"{whole.name}.part")


def _takes_it_straight(path: Path) -> bool:
    """Whether it is a pipe, a terminal or a device, whose place no file may take."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False
