"""The real daemon as a process, over a server that only pretends to be vLLM.

    python -m tests.fakes.daemon CONFIG [switches of tests/fakes/vllm_server.py]

Everything is real but the model: driver, guard, child process, HTTP on a unix
socket. Used where a test or a benchmark kills and restarts it a thousand times.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import uvloop

from appliance.app import serve
from appliance.building import engine_settings
from appliance.config import Config, load
from drivers.vllm import VllmEngine
from drivers.vllm_settings import Settings

SERVER = Path(__file__).with_name("vllm_server.py")
PLAYS_VERSION = "0.32.0"


def engine(config: Config, switches: tuple[str, ...]) -> VllmEngine:
    """The driver as `appliance.building` builds it, told to launch the pretender."""
    return VllmEngine(
        python=Path(sys.executable),
        model="fake",
        served_name=config.engine.alias,
        runtime_dir=Path(config.runtime_dir) / config.engine.alias,
        cache_dir=config.cache_dir,
        args=switches,
        device="cpu",
        settings=Settings(max_num_seqs=engine_settings(config).max_running),
        start_timeout_s=config.engine.start_timeout_s,
        stop_timeout_s=config.engine.stop_timeout_s,
        stall_timeout_s=config.engine.stall_timeout_s,
        launch=((sys.executable, str(SERVER)), PLAYS_VERSION),
    )


def main() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    config = load(Path(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, engine=engine(config, tuple(sys.argv[2:]))))


if __name__ == "__main__":
    main()
