"""The command `wattnap`: parses and prints, decides nothing.

Commands live in `appliance.commands`; their modules import nothing heavy, so
that `--help` is quick. Every error is one line on stderr, and its kind is the
exit code (sysexits.h).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence

import click

from appliance.commands import (
    decide,
    doctor,
    energy,
    export,
    meters,
    model,
    power,
    prompts,
    records,
    service,
    simulate,
)
from appliance.errors import ApplianceError

SHORT_HELP = 100  # characters: no first line is longer, and none is cut off
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Of a write: the fault of the place, not of the program."""


def version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """`--version`: of the installed package."""
    if not wanted or ctx.resilient_parsing:
        return
    from importlib import metadata

    try:
        found = metadata.version("wattnap")
    except metadata.PackageNotFoundError:
        found = "(not installed)"
    click.echo(f"wattnap {found}")
    ctx.exit()


class Grouped(click.Group):
    """Lists its commands by what they are for, in the order they are needed."""

    sections = (
        ("Serve", ("run", "demo", "config", "model", "trial", "doctor")),
        ("Prompts", ("ask", "submit", "answer", "cancel")),
        ("Power", ("status", "why", "wake", "rest", "bake", "calibrate", "simulate")),
        ("Log", ("requests", "energy", "savings", "wakes", "ledger", "meter")),
    )

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.sections:
            rows = [(name, self.commands[name].get_short_help_str(SHORT_HELP)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    envvar="WATTNAP_CONFIG",
    help="Configuration to use instead of /etc/wattnap/wattnap.toml. Also: WATTNAP_CONFIG.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=version,
    help="Print the version.",
)  # fmt: skip
@click.pass_context
def wattnap(ctx: click.Context, config: str | None) -> None:
    """Answer prompts, and spend almost nothing while nobody asks.

    A daemon wakes a language model when a prompt arrives, answers, lets it rest
    when it is idle, and logs every request and joule.

    \b
    Try it:    wattnap demo --help
    Ask:       wattnap ask "turn on the light in the kitchen"
    The bill:  wattnap energy

    Commands that read take --json and print one line. Exit codes: 0 fine ·
    64 wrong usage · 65 the request is wrong · 69 the daemon is not there ·
    70 it failed · 74 the output cannot be written · 75 try again later ·
    77 not permitted · 78 the configuration is wrong · 130 interrupted.
    """
    ctx.obj = config


for module in (
    *(service, model, doctor, prompts, power, decide, simulate),
    *(records, energy, export, meters),
):
    for command in module.COMMANDS:
        wattnap.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; never raises for what a user can cause."""
    _show_what_can_be_shown()
    try:
        result = wattnap.main(arguments, prog_name="wattnap", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ApplianceError, click.ClickException, click.Abort, KeyboardInterrupt) as error:
        return _conclude(error)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _give_up_stdout()
        return _conclude(error)
    return result if isinstance(result, int) else os.EX_OK


def _show_what_can_be_shown() -> None:
    """A letter that stdout has no code for is a question mark: it loses no answer."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def _give_up_stdout() -> None:
    """Drop what it still has: Python would try to write that at exit, and complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _conclude(error: BaseException) -> int:
    """Say in one line what went wrong, and return what the shell is to know."""
    told = ""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            status = os.EX_USAGE
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "wattnap"
            told, status = f"{error.format_message()} See `{command} --help`.", os.EX_USAGE
        case click.ClickException():
            told, status = error.format_message(), os.EX_NOINPUT
        case ApplianceError():
            told, status = str(error), error.exit_status
        case OSError():
            place = f" {error.filename}" if error.filename else ""
            told, status = f"cannot write{place}: {error.strerror}", os.EX_IOERR
        case _:
            status = INTERRUPTED
    if told:
        with contextlib.suppress(OSError):  # the exit code says it, too
            click.echo(f"wattnap: {' '.join(told.split())}", err=True)
    return status
