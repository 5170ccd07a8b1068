"""The engine's contract for VllmEngine, whatever serves behind it, and however it was started."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from drivers.protocols import Engine
from drivers.vllm import VllmEngine
from tests.contracts.engine import EngineContract
from tests.drivers.parts import not_its_host, requests_running, socket_of


class VllmContract(EngineContract):
    """Subclass with a fixture `shared_engine`, which ends it."""

    begins_with = 1
    """Processes that a start has soon: a guard, or that and a server."""
    begins_after_s = 0.0
    """Then it is well into its imports, where vLLM loses a SIGTERM."""

    @pytest.fixture
    def engine(self, shared_engine: VllmEngine) -> Engine:
        return shared_engine

    async def running(self, engine: Engine) -> int:
        return await requests_running(socket_of(await engine.start()))

    async def kill(self, engine: Engine) -> None:
        """Kill the server: left alone, vLLM's EngineCore would live on (vLLM issue 55510)."""
        psutil.Process((await engine.start()).pids[0]).kill()

    async def children(self, engine: Engine) -> int:
        assert isinstance(engine, VllmEngine)
        return len(not_its_host(engine))

    async def begun(self, engine: Engine) -> None:
        while await self.children(engine) < self.begins_with:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        await asyncio.sleep(self.begins_after_s)
