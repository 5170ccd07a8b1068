"""The check after each wake: eight greedy tokens, against what this engine said before.

A sleeping engine may come back with garbage in its weights and no error at all
(vLLM's level 2 without a reload: vLLM issue 29341). So before anybody is served it
answers one short prompt, alone, and the same engine must say the same again.

The same engine: same weights, versions, driver, GPU and flags, as one digest in
`EngineFacts.identity`. The prompt is shorter than a block of the KV cache, so that
no cached prefix changes how it is computed.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import msgspec

from appliance.clock import Clock, iso
from appliance.errors import StorageFailed
from appliance.storage.sql import Database
from appliance.storage.store import Store
from drivers.errors import BadReading, Unresponsive
from drivers.protocols import Engine

log = logging.getLogger(__name__)

PROMPT = "wattnap"
TOKENS = 8
TIMEOUT_S = 60.0
"""Generous: a first request after a first start may compile."""


class _Choice(msgspec.Struct, frozen=True):
    text: str


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]


class Canary:
    """One engine's check. `alias`: as the engine knows its model."""

    def __init__(self, engine: Engine, alias: str, store: Store, clock: Clock) -> None:
        self._engine, self._store, self._clock = engine, store, clock
        self._said: dict[str, str] = {}  # by the latest identity: no failed write forgets it
        self._body = msgspec.json.encode(
            {
                "model": alias,
                "prompt": PROMPT,
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
            }
        )

    async def check(self, identity: str, *, warm: bool) -> None:
        """Return if it says what it said before, or nothing is known of it yet.

        `warm`: it was not started anew, so that what it says must be the same. An
        engine that was started anew and says something else, twice, is right: what
        changed it is not in its identity.

        Raises BadReading if its answer is wrong; another DriverError if there is none.
        """
        said = await self._ask()
        if said is None:
            return
        known = self._said[identity] if identity in self._said else await self._known(identity)
        if said == known:
            self._said = {identity: said}
            return
        if known is not None:
            if warm:
                raise BadReading(self._engine.name, f"woke up saying {said!r}, not {known!r}")
            if (again := await self._ask()) != said:
                raise BadReading(self._engine.name, f"says {said!r}, then {again!r}")
            log.warning("after a fresh start it says %r, and used to say %r", said, known)
        self._said = {identity: said}
        at = iso(self._clock.utc())
        try:
            await self._store.write(partial(_remember, identity=identity, said=said, at=at))
        except StorageFailed as error:
            log.warning("another daemon will have nothing to compare a wake with: %s", error)

    async def _known(self, identity: str) -> str | None:
        """What it said before. A disk that fails is no reason not to serve."""
        try:
            return await self._store.read(partial(_find, identity=identity))
        except StorageFailed as error:
            log.warning("this wake has nothing to compare with: %s", error)
            return None

    async def _ask(self) -> str | None:
        """What it says; None if it is no engine that completes texts."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._engine.request("/v1/completions", self._body, stream=False) as reply,
            ):
                raw = b"".join([chunk async for chunk in reply.chunks])
        except TimeoutError as error:
            late = f"no answer to the check within {TIMEOUT_S:.0f} s"
            raise Unresponsive(self._engine.name, late) from error
        if 400 <= reply.status < 500:
            log.info("the check after a wake is not for this engine: %d", reply.status)
            return None
        try:
            return msgspec.json.decode(raw, type=_Completion).choices[0].text
        except (msgspec.DecodeError, IndexError) as error:
            told = f"answered the check with {reply.status}, {raw[:200]!r}"
            raise BadReading(self._engine.name, told) from error


def _find(db: Database, identity: str) -> str | None:
    found: tuple[Any, ...] | None = db.execute(
        "SELECT said FROM canary WHERE identity = ?", (identity,)
    ).fetchone()
    return None if found is None else str(found[0])


def _remember(db: Database, identity: str, said: str, at: str) -> None:
    db.execute("INSERT OR REPLACE INTO canary VALUES (?, ?, ?)", (identity, said, at))
