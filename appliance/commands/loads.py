"""The two loads that a meter is fitted at: asked for, or made by a program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import click

from appliance.commands import terminal
from appliance.config import Config, MeterKind
from appliance.errors import NotFitted, alone_in
from appliance.fitting import PATIENCE_S, Fit, Load, fit_meter


def measured(
    config: Config, kind: MeterKind, load: str | None, *, seconds: float, settle_s: float
) -> tuple[Load, Load, Fit]:
    """Two loads on this box, as they come. Raises what `fit_meter` does, alone."""
    if load is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            "Nobody can be asked for the loads: give --load, or --low and --high."
        )
    words = None if load is None else shlex.split(load)
    if words == []:
        raise click.BadParameter("it is empty", param_hint="--load")
    with contextlib.ExitStack() as stack:

        async def prepare(which: Literal["low", "high"]) -> None:
            if words is None:
                terminal.say(ASKED[which], err=True)
                await _enter()
            elif which == "high":
                stack.enter_context(running(words))
            terminal.say(f"measuring {which}: {settle_s:.0f} + {seconds:.0f} s", err=True)

        told = f"listening to {config.energy.plug_topic}, for at most {PATIENCE_S:.0f} s"
        terminal.say(told, err=True)
        try:
            return asyncio.run(fit_meter(config, kind, prepare, seconds=seconds, settle_s=settle_s))
        except BaseExceptionGroup as group:
            raise alone_in(group) from group


ASKED = {
    "low": "Let the box be idle: no request, no other program. Then press Enter.",
    "high": "Now put a load on it that holds still, and press Enter.",
}


async def _enter() -> None:
    """Until the key is pressed. Unlike a thread, this can be interrupted."""
    loop = asyncio.get_running_loop()
    pressed = asyncio.Event()
    loop.add_reader(sys.stdin, pressed.set)
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(sys.stdin)
    sys.stdin.readline()


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[None]:
    """A program with all its children, until the block ends, which it must outlive.

    Raises NotFitted if it cannot be started, or has ended before.
    """
    try:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise NotFitted(f"--load: {words[0]}: {error.strerror}") from error
    try:
        yield
        if (status := process.poll()) is not None:
            raise NotFitted(
                f"--load: it ended with {status} before it was measured; it must run for longer"
            )
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
