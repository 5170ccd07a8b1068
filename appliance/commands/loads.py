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

import click

from appliance.commands import terminal
from appliance.config import Config, MeterKind
from appliance.energy.fitting import PATIENCE_S, Fit, Load, Which, fit_meter
from appliance.errors import NotFitted, alone_in


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
        conduct = _Conduct(kind, words, stack, whole_s=settle_s + seconds)
        told = f"listening to {config.energy.plug_topic}, for at most {PATIENCE_S:.0f} s"
        terminal.say(told, err=True)
        try:
            return asyncio.run(fit_meter(config, kind, conduct, seconds=seconds, settle_s=settle_s))
        except BaseExceptionGroup as group:
            raise alone_in(group) from group
        finally:
            conduct.clear()


class _Conduct:
    """Asks for the loads, or makes the second; shows how it goes where somebody sees it."""

    def __init__(
        self,
        kind: MeterKind,
        words: list[str] | None,
        stack: contextlib.ExitStack,
        *,
        whole_s: float,
    ) -> None:
        self._kind, self._words, self._stack, self._whole_s = kind, words, stack, whole_s

    async def prepare(self, which: Which) -> None:
        if self._words is None:
            terminal.say(ASKED[which], err=True)
            await _enter()
        elif which == "high":
            self._stack.enter_context(running(self._words))
        terminal.say(f"measuring {which}: {self._whole_s:.0f} s", err=True)

    def looked(self, left_s: float, meter_w: float | None, plug_w: float | None) -> None:
        if sys.stderr.isatty():
            now = f"{self._kind} {_watts(meter_w)}, plug {_watts(plug_w)}"
            click.echo(f"\r{max(0.0, left_s):4.0f} s left, now {now}\x1b[K", nl=False, err=True)

    def measured(self, which: Which, load: Load) -> None:
        self.clear()
        means = f"{self._kind} {load.meter_w:.2f} W, plug {load.plug_w:.2f} W"
        terminal.say(f"{which}: {means}, drift {load.drift_w:+.2f} W", err=True)

    def clear(self) -> None:
        """Of what was there for a moment."""
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)


def _watts(power_w: float | None) -> str:
    return "…" if power_w is None else f"{power_w:.1f} W"


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
