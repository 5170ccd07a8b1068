"""Which settings fit here: what was asked for, or what a start that failed has left of it.

What has fitted is kept in a file, so that the next daemon begins where this one arrived;
for as long as nothing changes that could matter (`key_of`). Without the file, nothing is
lost but a few starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from drivers.errors import (
    Died,
    DriverError,
    NotPermitted,
    NotPresent,
    NotSupported,
    OutOfMemory,
    Refused,
)
from drivers.probe import Machine, probe
from drivers.procfs import oom_kills
from drivers.vllm_failures import SHORT_OF_MEMORY, Failure, Kind, explain
from drivers.vllm_identity import identity
from drivers.vllm_settings import Settings, Steps, changed, descend, differences
from drivers.vllm_versions import Install

LASTING: dict[Kind, type[DriverError]] = {
    "no_device": NotPresent,
    "no_model": NotPresent,
    "not_permitted": NotPermitted,
    "bad_loader": NotSupported,
    "bad_install": NotSupported,
    "bad_flag": NotSupported,
    "bad_model": NotSupported,
    "bad_settings": NotSupported,
}
"""Failures that come again until a person has done something -> what they are."""


class Fit:
    """One engine's settings, from start to start. `begin`, then `worked` or `failed`."""

    def __init__(self, file: Path, asked: Settings, args: tuple[str, ...] = ()) -> None:
        self._file = file
        self._asked, self._args = asked, args
        self._key: str | None = None
        self._steps: Steps = {}
        self._lasting: Steps = {}
        """Those that stay. Others are for the moment: other programs had the memory, and may give
        it back; and so is each that was taken beside one of these, and may not be needed alone."""
        self._worked = False
        self._oom_kills = 0
        self._killed, self._killed_before = False, False
        """By the kernel: since it last worked, and before a start that worked smaller."""

    @property
    def settings(self) -> Settings:
        """For the next start."""
        return changed(self._asked, self._steps)

    @property
    def smaller(self) -> tuple[str, ...]:
        """How they differ from what was asked for, in words; () if they do not."""
        return differences(self.settings, self._asked)

    def begin(self, key: str) -> Settings:
        """Settings for a start of what `key` stands for."""
        if key != self._key:
            self._key, self._lasting = key, self._load(key)
            self._killed, self._killed_before = False, False
            self._forget_passing()
        elif self._worked:
            self._forget_passing()
        self._worked = False
        self._oom_kills = oom_kills()
        return self.settings

    def worked(self) -> None:
        """The start succeeded: keep what made it succeed."""
        self._worked = True
        self._killed, self._killed_before = False, self._killed or self._killed_before
        fresh = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk must not end a healthy engine
            if self._lasting:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                fresh.write_text(json.dumps({"key": self._key, "steps": self._lasting}))
                fresh.replace(self._file)
            else:
                self._file.unlink(missing_ok=True)

    def failed(self, device: str, lines: Iterable[str], status: int) -> DriverError:
        """The start ended thus: what to raise, and smaller settings if they may help."""
        failure = explain(lines, status, oom_kills=oom_kills() - self._oom_kills)
        if failure.kind in SHORT_OF_MEMORY:
            if self._reduce(failure):
                left = ", ".join(self.smaller)
                return OutOfMemory(device, status, f"{failure.said}; the next start has {left}")
            told = f" with {', '.join(self.smaller)}" if self.smaller else ""
            why = f"it does not fit{told}: {failure.advice} ({failure.said})"
            passing = failure.others or self._steps != self._lasting
            self._forget_passing()
            return (Refused if passing else NotSupported)(device, why)
        if failure.kind == "bad_loader" and self._reduce(failure):
            return Died(
                device, status, f"{failure.said}; the next start loads without InstantTensor"
            )
        if failure.kind in LASTING:
            return LASTING[failure.kind](device, f"{failure.advice} ({failure.said})")
        advice = f"; {failure.advice}" if failure.advice else ""
        return Died(device, status, failure.said + advice)

    def _reduce(self, failure: Failure) -> bool:
        steps = descend(self._asked, self._steps, failure, args=self._args)
        if steps is None:
            return False
        if failure.kind == "bad_loader":  # whoever has the memory
            fresh = steps.keys() - self._steps.keys()
            self._lasting = {**self._lasting, **{name: steps[name] for name in fresh}}
        elif self._steps == self._lasting:
            # Others may have been to blame. But twice by the kernel, and smaller it worked: it
            # was this engine, as on a board where the GPU has the host's memory.
            again = failure.by_kernel and self._killed_before
            self._killed |= failure.by_kernel
            if again or not failure.others:
                self._lasting = steps
        self._steps = steps
        return True

    def _forget_passing(self) -> None:
        self._steps = self._lasting

    def _load(self, key: str) -> Steps:
        try:
            kept = json.loads(self._file.read_text())
            steps: Steps = kept["steps"] if kept["key"] == key else {}
            changed(self._asked, steps)  # may be of another version of ours
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return steps


async def key_of(model: str, install: Install, flags: Sequence[str], env: Mapping[str, str]) -> str:
    """A digest of all on which it depends what fits on this machine.

    `flags` say what was asked for; `env` is what was set on purpose.
    """
    return await asyncio.to_thread(lambda: key_on(probe(), model, install, flags, env))


def key_on(
    machine: Machine, model: str, install: Install, flags: Sequence[str], env: Mapping[str, str]
) -> str:
    # The driver does not know a GPU's UUID before its first use: each boot would be another place.
    gpus = tuple(replace(gpu, uuid="") for gpu in machine.gpus)
    digest = identity(
        model=model, install=install, flags=flags, env=env, machine=replace(machine, gpus=gpus)
    )
    # Two kernels count a few MiB more or less.
    return f"{digest} {round(machine.memory.total_bytes / (1 << 30))} GiB"
