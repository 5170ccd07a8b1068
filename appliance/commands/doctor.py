"""doctor: what is amiss on this machine, and how to mend it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands.options import as_json, print_json

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.errors import ConfigError
    from appliance.setup.checks.findings import Finding, Report

MARKS = {
    "fine": ("✓", "green"),
    "note": ("·", "blue"),
    "warning": ("!", "yellow"),
    "trouble": ("✗", "red"),
}
WIDEST = 110


@click.command()
@click.option("--deep", is_flag=True, help="Ask NVML too, even if that wakes the GPU.")
@click.option(
    "--capture-tree", "file", metavar="FILE.tar.gz", type=Path,
    help="Pack the files that are read here, to be sent; no check.",
)  # fmt: skip
@as_json
@click.option("--config", "path", metavar="FILE", help="As `wattnap --config FILE`.")
@click.pass_context
def doctor(
    ctx: click.Context, deep: bool, file: Path | None, json_: bool, path: str | None
) -> None:
    """Say what this machine can do, what is amiss, and how to mend it.

    Shows which rungs it offers for rest, and looks at GPU, driver, clocks,
    memory, vLLM, model, permissions, disk, service, engine and broker. Changes
    nothing, and wakes no engine and no GPU that sleeps. As root it sees more,
    and checks for the service's user; else for who asks.

    --capture-tree writes what the checks have read of /proc, /sys and /etc: no
    serial numbers, no addresses, no host or user names (docs/jetson.md).

    \b
    wattnap doctor
    wattnap doctor --json | jq '.findings[] | select(.severity == "trouble")'

    Exit codes: 0 nothing to mend · 1 it can serve, and could do it better ·
    69 it cannot: something that it needs is missing or does not run · 77
    something may not be used · 78 the configuration or what it names is wrong.
    """
    if file is not None:
        _capture(file, json_)
        return
    from appliance.setup.doctor import examine

    config, failure = _configured(path or ctx.obj)
    report = examine(config, failure=failure, deep=deep)
    if json_:
        print_json(report.as_dict())
    else:
        _show(report)
    ctx.exit(report.exit_status)


COMMANDS = (doctor,)


def _configured(path: str | None) -> tuple[Config, ConfigError | None]:
    """The defaults, and why, if it cannot be loaded."""
    from appliance.config import Config, find
    from appliance.errors import ConfigError

    try:
        return find(path), None
    except ConfigError as error:
        return Config(), error


def _capture(file: Path, json_: bool) -> None:
    from appliance.setup.doctor import capture

    try:
        names = capture(file)
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from error
    if json_:
        print_json({"file": str(file), "files": names})
        return
    click.echo(f"{file}: {len(names)} files, {file.stat().st_size} bytes; see `tar -tzf {file}`")


def _show(report: Report) -> None:
    width = min(shutil.get_terminal_size().columns, WIDEST) if sys.stdout.isatty() else None
    for line in lines(report, width):
        click.echo(line)


def lines(report: Report, width: int | None = None) -> Iterator[str]:
    """The report for people; None: a finding is one line, however long it is."""
    yield click.style(report.subject, bold=True)
    yield ""
    yield "Rest"
    for rung in report.rungs:
        mark = "note" if rung.why_not else "fine"
        yield from _line(mark, rung.depth, rung.why_not, 15, width)
    yield ""
    yield "Checks"
    column = max(len(finding.what) for finding in report.findings) + 1
    for finding in report.findings:
        yield from _line(finding.severity.name.lower(), finding.what, finding.says, column, width)
        for command in finding.fix:
            yield click.style(f"{' ' * (column + 7)}{command}", fg="cyan")
    yield ""
    yield _verdict(report)


def _line(mark: str, what: str, says: str, column: int, width: int | None) -> Iterator[str]:
    sign, colour = MARKS[mark]
    room = max(20, width - column - 5) if width else sys.maxsize
    first, *more = textwrap.wrap(says, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield f"  {click.style(sign, fg=colour)} {what:{column}} {first}".rstrip()
    for line in more:
        yield f"{' ' * (column + 5)}{line}"


def _verdict(report: Report) -> str:
    def named(severity: str) -> list[Finding]:
        return [found for found in report.findings if found.severity.name.lower() == severity]

    if troubles := named("trouble"):
        what = ", ".join(finding.what for finding in troubles)
        return click.style(f"It cannot serve yet: {what}.", fg="red", bold=True)
    warnings = ", ".join(finding.what for finding in named("warning"))
    better = f" Could be better: {warnings}." if warnings else ""
    return click.style(f"It can serve.{better}", fg="green", bold=True)
