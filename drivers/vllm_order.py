"""What one vLLM server is told at its start, and the digests of it, all without starting it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import NotPermitted, NotPresent, Refused
from drivers.probe import probe
from drivers.vllm_command import CUDA_CACHE, environment, flags_for
from drivers.vllm_fit import key_of
from drivers.vllm_home import Home
from drivers.vllm_identity import NOT_THERE, identity, ingredients
from drivers.vllm_rest import SleepLevel, sleep_flags, why_not
from drivers.vllm_settings import Settings, flags_of, variables_of
from drivers.vllm_versions import Install, Row, Versions, row_for

versions = Versions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """For one start, whichever settings it will have.

    command    up to the model's name
    model      as the server is told
    env        what was set on purpose
    variables  the environment, but for what settings put into it
    sleepless  why this version cannot sleep; "" if it can
    fixed      flags before those of the settings
    args       flags after them
    """

    command: tuple[str, ...]
    model: str
    install: Install
    row: Row
    env: Mapping[str, str]
    variables: Mapping[str, str]
    sleepless: str
    fixed: tuple[str, ...]
    args: tuple[str, ...]

    def flags(self, settings: Settings) -> list[str]:
        return [*self.fixed, *flags_of(settings, self.row, self.args), *self.args]

    def environment(self, settings: Settings) -> dict[str, str]:
        return variables_of(settings, self.row) | dict(self.variables)

    async def key(self, asked: Settings) -> str:
        """What drivers.vllm_fit remembers by."""
        return await key_of(self.model, self.install, self.flags(asked), self.env)

    async def identity(self, flags: Sequence[str]) -> str:
        """What a server with these flags is (drivers.vllm_identity)."""
        return await asyncio.to_thread(
            lambda: identity(
                model=self.model,
                install=self.install,
                flags=flags,
                env=self.env,
                machine=probe(),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Makes them for one engine. Fields as VllmEngine is told; `local`: its model is a folder."""

    name: str
    python: Path
    model: str
    served_name: str
    home: Home
    cache_dir: Path
    device: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    settings: Settings
    sleep_level: SleepLevel
    start_timeout_s: float
    stop_timeout_s: float
    launch: tuple[tuple[str, ...], str] | None

    async def make(self) -> Order:
        """As everything is now.

        Raises NotPresent, NotPermitted, NotSupported, Refused: it cannot be started.
        """
        model = self._named_model()
        if self.launch is not None:
            command, version = self.launch
            install = Install("vllm", version)
        else:
            install = await versions.find(self.python, self.env.get("PYTHONPATH", ""))
            command = (str(self.python), *row_for(install).serve)
        with contextlib.suppress(OSError):  # a start without it is slower, and no worse
            (self.cache_dir / CUDA_CACHE).mkdir(parents=True, exist_ok=True)
        row = row_for(install)
        sleepless = why_not(self.sleep_level, row, install)
        flags = flags_for(
            row,
            socket=self.home.socket,
            served_name=self.served_name,
            stop_timeout_s=self.stop_timeout_s,
        )
        return Order(
            command=(*command, model),
            model=model,
            install=install,
            row=row,
            env=self.env,
            variables=self._variables(local_model=Path(model).is_absolute()),
            sleepless=sleepless,
            fixed=(*flags, *([] if sleepless else sleep_flags(self.device))),
            args=self.args,
        )

    async def recipe(self) -> str:
        """As Engine.recipe.

        Not made of what a start has been reduced to (drivers.vllm_fit), nor of a GPU's
        UUID, which nobody knows before the GPU's first use: both would make another
        recipe of the same wishes.
        """
        order = await self.make()
        facts = [
            await order.key(self.settings),
            variables_of(self.settings, order.row),
            self.sleep_level,
            await asyncio.to_thread(name_of, self.cache_dir),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    async def ingredients(self) -> dict[str, str]:
        """As Engine.ingredients."""
        order = await self.make()
        flags = order.flags(self.settings)
        variables = {**order.env, **variables_of(self.settings, order.row)}
        return {
            **await asyncio.to_thread(
                lambda: ingredients(
                    model=order.model,
                    install=order.install,
                    flags=flags,
                    env=variables,
                    machine=probe(),
                )
            ),
            "sleep level": str(self.sleep_level),
        }

    def _variables(self, *, local_model: bool) -> dict[str, str]:
        return environment(
            os.environ,
            python=self.python,
            home=self.home,
            cache_dir=self.cache_dir.absolute(),
            device=self.device,
            local_model=local_model,
            start_timeout_s=self.start_timeout_s,
            extra=self.env,
        )

    def _named_model(self) -> str:
        """Absolute if it is a folder, since the server does not work in ours."""
        if self._model_is_there():
            return str(Path(self.model).absolute())
        if Path(self.model).is_absolute():
            raise NotPresent(self.name, f"no model at {self.model}")
        return self.model

    def _model_is_there(self) -> bool:
        try:
            Path(self.model).stat()
        except PermissionError as error:
            why = (
                f"cannot look at the model {self.model}: {error.strerror};"
                " let the daemon's user enter each folder above it"
            )
            raise NotPermitted(self.name, why) from error
        except OSError as error:
            if error.errno in NOT_THERE:
                return False
            why = f"cannot look at the model {self.model}: {error.strerror}"
            raise Refused(self.name, why) from error
        return True


def name_of(folder: Path) -> str:
    """A folder's own, given at the first asking: removed and made anew it has another.

    "" where nothing can be written.
    """
    file = folder / ".name"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), file.open("x") as fresh:
            fresh.write(secrets.token_hex(8))
        return file.read_text()
    return ""
