"""run, demo, config: the daemon itself, and what surrounds it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands.options import as_json, with_config
from appliance.errors import alone_in

if TYPE_CHECKING:
    from appliance.config import Config

CACHE = Path("~/.cache/wattnap")


@click.command()
@click.option("--fake", is_flag=True, help="An engine in memory, which repeats the prompt.")
@click.option("--verbose", is_flag=True, help="Log what is decided, and why; as log.level.")
@with_config
def run(config: Config, fake: bool, verbose: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Under systemd it is `wattnap.service` that does this. What was accepted when
    it stops, also by a crash, is answered after the next start.

    \b
    wattnap run --config ./wattnap.toml
    wattnap run --fake

    Exit codes: 0 stopped as told · 70 a bug, see the log · 75 the disk would
    not take it, or another daemon has the state directory · 78 the
    configuration is wrong.
    """
    import asyncio

    import uvloop

    from appliance import logs
    from appliance.app import serve

    os.umask(0o077)  # prompts are in the database; as wattnap.service has it
    logs.set_up(level="debug" if verbose else config.log.level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, fake=fake))
    except BaseExceptionGroup as group:
        raise alone_in(group) from group


@click.command()
@click.option("--engine-python", type=Path, metavar="PATH", help="Python that has vLLM.")
@click.option(
    "--mosquitto", type=Path, metavar="PATH", default=Path("/usr/sbin/mosquitto"),
    show_default=True, help="The broker's program.",
)  # fmt: skip
@click.option(
    "--model", type=Path, metavar="DIR", help="Model to serve, instead of the one in the box."
)
@click.option(
    "--cache", type=Path, metavar="DIR", default=CACHE, show_default=True,
    help="Where the engine's caches and the last ledger stay.",
)  # fmt: skip
@click.option(
    "--keep", type=Path, metavar="DIR", help="Run in DIR, new or empty, and leave everything there."
)
@click.option("--fake", is_flag=True, help="Without vLLM: an engine that repeats the prompt.")
@as_json
def demo(
    engine_python: Path | None,
    mosquitto: Path,
    model: Path | None,
    cache: Path,
    keep: Path | None,
    fake: bool,
    json_: bool,
) -> None:
    """Show all of it, on a broker and an engine of its own.

    Starts both in a temporary folder, publishes three prompts over MQTT, shows
    the wake, the tokens as they come, the rest when it is idle, a second wake,
    and where the joules went. Stops everything, also when it is interrupted.

    With --json, the last line on stdout is the result. The ledger it names
    stays: in DIR with --keep, else as demo-ledger.db in the cache.

    \b
    wattnap demo --fake
    wattnap demo --engine-python ~/vllm/bin/python --json

    Exit codes: 0 all of it worked · 70 something did not · 75 the engine would
    not start · 78 a program or a folder cannot be used · 130 interrupted.
    """
    from appliance.demo.settings import Parts
    from appliance.demo.show import show

    if engine_python is None and not fake:
        raise click.UsageError("Name an --engine-python, or try it with --fake.")
    parts = Parts(
        engine_python=engine_python,
        mosquitto=mosquitto,
        model=model.absolute() if model else None,
        cache=cache.expanduser().absolute(),
        keep=keep.absolute() if keep else None,
        fake=fake,
    )
    click.get_current_context().exit(show(parts, as_json=json_))


@click.command("config")
@click.option("--example", is_flag=True, help="Print a file with every key and its default.")
@click.option("--check", type=Path, metavar="FILE", help="Look at FILE's keys and values.")
def config_(example: bool, check: Path | None) -> None:
    """Explain the configuration, or check one.

    \b
    wattnap config --example > wattnap.toml
    wattnap config --check wattnap.toml

    What the values name, a model, say, or a broker, `wattnap doctor` looks at.

    Exit codes: 0 fine · 78 it cannot be used; the message names the key.
    """
    if example == (check is not None):
        raise click.UsageError("Choose one of --example and --check.")
    if check is not None:
        from appliance.config import load

        load(check)
        click.echo(
            f"{check}: keys and values are fine;"
            f" `wattnap --config {check} doctor` looks at what they name"
        )
    else:
        from appliance.config_example import example as whole

        click.echo(whole(), nl=False)


@click.command()
@click.option("--engine-python", metavar="PATH", default="", help="Another engine's Python.")
@with_config
def trial(config: Config, engine_python: str) -> None:
    """Try this version and its configuration out, beside a daemon that runs.

    Copies the database and changes the copy as an upgrade would, starts an
    engine, has it answer, sleep and wake, and removes the copy. What was
    compiled stays. `install.sh upgrade` does so before it switches.

    \b
    sudo -u wattnap wattnap trial --engine-python /opt/newer/bin/python

    Exit codes: 0 it would serve · 70 the engine does not work · 75 the disk
    would not take it · 78 the configuration is wrong.
    """
    import asyncio

    from appliance import logs
    from appliance.setup.trial import try_out

    logs.set_up(level=config.log.level)
    try:
        asyncio.run(try_out(config, engine_python=engine_python))
    except BaseExceptionGroup as group:
        raise alone_in(group) from group


COMMANDS = (run, demo, config_, trial)
