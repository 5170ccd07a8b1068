"""model: which model is served, in versions that can be gone back to."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands.options import as_json, print_json, with_config

if TYPE_CHECKING:
    from appliance.config import Config
    from appliance.setup.models import Shelf

SERVICE = "wattnap.service"


@click.group()
def model() -> None:
    """Add models, choose the one that is served, go back to the one before.

    Each is copied to /opt/wattnap/models with a digest of every file, and read
    and compared before it is used. Without any, and without engine.model in
    the configuration, the small model in the box is served.

    \b
    sudo wattnap model add ~/Qwen2.5-7B-Instruct-AWQ
    sudo wattnap model use Qwen2.5-7B-Instruct-AWQ
    sudo wattnap model rollback

    Exit codes: 0 fine · 65 no such model, or damaged · 70 it does not work
    here · 77 not permitted · 78 the configuration names another.
    """


@model.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="", help="Instead of the folder's.")
def add(folder: Path, name: str) -> None:
    """Copy the model in FOLDER. Does not use it yet.

    A file SHA256SUMS beside it must be true. Prints NAME@VERSION.

    Exit codes: 0 it is here · 65 it is no model, or damaged · 77 not permitted.
    """
    with _writing() as shelf:
        click.echo(shelf.add(folder, name))


@model.command("list")
@as_json
def list_(json_: bool) -> None:
    """Say which models are here, and which is served."""
    from appliance.setup.models import Shelf

    found = Shelf().list()
    if json_:
        keys = ("name", "version", "size_bytes", "mark")
        print_json({"models": [{key: getattr(each, key) for key in keys} for each in found]})
        return
    for each in found:
        click.echo(f"{each.mark:8}  {each.id}  {each.size_bytes / 1e9:.2f} GB".rstrip())
    if not any(each.mark == "current" for each in found):
        click.echo("served: the one in the box, unless engine.model names another")


@model.command()
@click.argument("name")
@with_config
def use(config: Config, name: str) -> None:
    """Serve model NAME, or NAME@VERSION, from now on.

    Its digests are compared, the daemon is restarted, and the engine started
    and checked with it. If that fails, the model before is served again.

    Exit codes: 0 it is served · 65 no such model, or damaged · 70 it does not
    work here; the one before is back · 77 not permitted · 78 engine.model in
    the configuration names a model.
    """
    with _writing() as shelf:
        _switch(config, shelf, shelf.find(name))


@model.command()
@with_config
def rollback(config: Config) -> None:
    """Serve the model before. Once more: forward again.

    Exit codes: as of `wattnap model use`.
    """
    from appliance.errors import ModelUnusable

    with _writing() as shelf:
        if not (previous := shelf.previous()):
            raise ModelUnusable("there is no model to go back to")
        _switch(config, shelf, previous)


@model.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a model that is neither served nor could be gone back to."""
    with _writing() as shelf:
        shelf.remove(shelf.find(name))


COMMANDS = (model,)


@contextlib.contextmanager
def _writing() -> Iterator[Shelf]:
    """Root's; whoever else tries is told so."""
    from appliance.errors import NotForThisUser
    from appliance.setup.models import Shelf

    os.umask(0o022)  # the engine, which is not root, has to read them
    try:
        yield Shelf()
    except PermissionError as error:
        raise NotForThisUser(f"{error.filename}: try it with sudo") from error


def _switch(config: Config, shelf: Shelf, id: str) -> None:
    from appliance.errors import BakeFailed, ConfigError

    if config.engine.model:
        raise ConfigError(
            f"engine.model names {config.engine.model}: take that line out of the configuration,"
            " and models are chosen here"
        )
    shelf.check(id)
    before = shelf.current()
    if before == id:
        click.echo(f"{id} is served already")
        return
    shelf.use(id)
    why = _restart(config)
    if why:
        if before:
            shelf.use(before)
        else:
            shelf.leave()
        _restart(config)
        raise BakeFailed(
            f"{id} does not work here, {before or 'the one in the box'} is back: {why}"
        )
    click.echo(f"{id} is served")


def _restart(config: Config) -> str:
    """If the service runs, have it serve what is current. Returns why it does not."""
    active = subprocess.run(["systemctl", "--quiet", "is-active", SERVICE], check=False)
    if active.returncode != os.EX_OK:
        return ""
    restarted = subprocess.run(["systemctl", "restart", SERVICE], check=False)
    if restarted.returncode != os.EX_OK:
        return f"{SERVICE} does not start; see journalctl -u {SERVICE}"
    return _baked(config)


def _baked(config: Config) -> str:
    from appliance.commands.power import baking
    from appliance.errors import ApplianceError
    from appliance.socket_client import Daemon

    try:
        with Daemon(config.socket_path) as daemon:
            for event in daemon.call("bake"):
                click.echo(baking(event))
    except ApplianceError as error:
        return str(error)
    return ""
