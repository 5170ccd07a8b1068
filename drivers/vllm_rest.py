"""How a vLLM is put to sleep and woken, through the middleware that it loads from us.

vLLM's own way would be its development mode, which opens far more than sleep. Ours is
the package `wattnap_engine` in drivers/engine_side, the one folder that the engine's
Python gets to see.

One sleep level holds for a whole life: parked after one sleep at level 1, an engine
holds its weights in RAM for ever (measured: 25 GB instead of 2).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from drivers.errors import Refused, Unresponsive
from drivers.upstream import Upstream
from drivers.vllm_versions import Install, Row

ENGINE_SIDE = Path(__file__).parent / "engine_side"
PACKAGE = "wattnap_engine"

SleepLevel = Literal[0, 1, 2]
"""vLLM's number: 1 keeps the weights in RAM, 2 drops them, 0: it never sleeps."""

IMAGE_S = 20.0
"""For the weights' image, before one sleep. On a slow disk it takes several until there is one."""
PIECE_S = 0.25
"""So long at once while it is awake: a request that comes may have to wait for the end of it."""

SETTLE_S = 5.0
"""Until it says that it is asleep, or awake, once it has answered that it went there."""

log = logging.getLogger(__name__)


def why_not(level: SleepLevel, row: Row, install: Install) -> str:
    """Why an engine of this version cannot sleep; "" if it can."""
    if level == 0:
        return "sleep_level is 0"
    if not row.sleep_pauses:
        return f"vLLM {install.version} would sleep under running requests; 0.17 and newer do not"
    return ""


def sleep_flags(device: str) -> list[str]:
    """What `vllm serve` must be told at its start. The package must be on its path."""
    flags = ["--middleware", f"{PACKAGE}.middleware.Control"]
    flags += ["--worker-extension-cls", f"{PACKAGE}.worker.Extension"]
    # On a CPU there is nothing to free, and vLLM refuses the flag; the rest is real.
    return [*flags, "--enable-sleep-mode"] if device == "cuda" else flags


class Sleep:
    """One engine's sleep, from its start to its end.

    level            1 or 2
    image            where the weights' image is kept, less the worker's number
    sleep_timeout_s  the first takes longest: level 1 pins memory (10 s for 13 GB),
                     level 2 makes the image (IMAGE_S at most)
    wake_timeout_s   at level 2 weights may come from a disk
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        level: SleepLevel,
        image: Path,
        sleep_timeout_s: float,
        wake_timeout_s: float,
    ) -> None:
        self._name = upstream.name
        self._upstream = upstream
        self._level = level
        self._image = image
        self._sleep_timeout_s = sleep_timeout_s
        self._wake_timeout_s = wake_timeout_s
        self._is: Literal["awake", "asleep", "unknown"] = "awake"
        self._missing = ""
        self._image_s = 0.0  # spent on it since the last sleep
        self._prepared = level != 2

    async def check(self) -> str:
        """Ask an engine that has just started why it cannot; "" if it can.

        Raises Died or Unresponsive.
        """
        status, state = await self._ask("GET", "state", timeout_s=self._wake_timeout_s)
        if status == 404:
            return "the engine has not loaded our middleware"
        if status != 200:
            return f"our middleware does not work: {state.get('error', status)}"
        return "sleep mode is off: it would free nothing" if state["pool_bytes"] == 0 else ""

    def need_awake(self) -> None:
        """Raise Unresponsive unless it can serve: asleep it would take a request for ever."""
        if self._is != "awake":
            state = "it is asleep" if self._is == "asleep" else "it failed to sleep or to wake"
            raise Unresponsive(self._name, state)

    async def prepare(self) -> bool:
        """As Engine.prepare: a piece of the image."""
        if self._is == "asleep" or self._prepared or self._image_s >= IMAGE_S:
            return False
        self.need_awake()
        self._need_idle()
        began_s = asyncio.get_running_loop().time()
        query = self._for_image(PIECE_S)
        state = await self._order("prepare", query, timeout_s=self._sleep_timeout_s)
        self._image_s += asyncio.get_running_loop().time() - began_s
        self._prepared = not state["more"]
        return not self._prepared

    async def sleep(self) -> str:
        """As Engine.sleep; Refused: requests are running."""
        if self._is == "asleep":
            return self._missing
        self.need_awake()
        self._need_idle()
        self._is = "unknown"
        query = self._for_image(max(PIECE_S, IMAGE_S - self._image_s)) if self._level == 2 else {}
        self._image_s = 0.0
        state = await self._order("sleep", query, timeout_s=self._sleep_timeout_s)
        await self._settle(state, asleep=True)
        self._see_it_freed(state)
        log.debug("%s: asleep: %s", self._name, state)
        self._is = "asleep"
        self._missing = state.get("image", "")
        self._prepared = not self._missing
        return self._missing

    async def wake(self) -> None:
        """As Engine.wake."""
        if self._is != "asleep":
            self.need_awake()
            return
        self._is = "unknown"
        state = await self._order("wake", {}, timeout_s=self._wake_timeout_s)
        await self._settle(state, asleep=False)
        log.debug("%s: awake: %s", self._name, state)
        if state.get("weights") == "files":
            self._prepared = False  # there was no image, or it was no good
        self._is = "awake"

    def _need_idle(self) -> None:
        if self._upstream.busy:
            raise Refused(self._name, "asked to sleep while it serves")

    def _for_image(self, budget_s: float) -> dict[str, str]:
        return {"image": str(self._image), "budget_s": f"{budget_s:.2f}"}

    def _see_it_freed(self, state: Mapping[str, Any]) -> None:
        """Raise Unresponsive unless its pool's memory is the device's again, or somebody else's."""
        pool_bytes = state["pool_bytes"]
        if pool_bytes is None or state["freed_bytes"] * 2 >= pool_bytes:
            return
        told = f"asleep, it freed {state['freed_bytes']} of {pool_bytes} bytes"
        if state["held_bytes"] * 2 > pool_bytes:
            raise Unresponsive(self._name, told)
        log.info("%s: as the device tells; somebody else has taken the rest", told)

    async def _settle(self, state: Mapping[str, Any], *, asleep: bool) -> None:
        """Return once it says that it is there."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while state["asleep"] is not asleep:
            if asyncio.get_running_loop().time() > deadline:
                where = "asleep" if asleep else "awake"
                raise Unresponsive(self._name, f"not {where} {SETTLE_S:.0f} s after it said so")
            await asyncio.sleep(0.05)
            _, state = await self._ask("GET", "state", timeout_s=SETTLE_S)

    async def _order(
        self, what: str, query: Mapping[str, str], *, timeout_s: float
    ) -> Mapping[str, Any]:
        path = f"{what}?{urlencode({'level': self._level, **query})}"
        status, state = await self._ask("POST", path, timeout_s=timeout_s)
        if status != 200:
            # After such an answer memory may be gone and vLLM not know it: it must not serve.
            raise Unresponsive(self._name, f"{what} failed: {state.get('error', status)}")
        return state

    async def _ask(
        self, method: str, path: str, *, timeout_s: float
    ) -> tuple[int, Mapping[str, Any]]:
        status, body = await self._upstream.ask(method, f"/wattnap/{path}", timeout_s=timeout_s)
        try:
            state = json.loads(body)
        except ValueError:
            state = {}
        if status == 200 and not {"asleep", "pool_bytes"} <= state.keys():
            raise Unresponsive(self._name, f"{path.partition('?')[0]}: answer without a state")
        return status, state
