"""The engine, and the hours that are good ones, as the configuration names them.

Part of the composition root, beside `app` and `metering`: it names concrete drivers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from appliance import defaults
from appliance.clock import Clock
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.model_facts import model_facts
from appliance.power.good_hours import GoodHours, GoodTable, Signal
from appliance.setup.models import in_the_box, served
from appliance.tariff import rate
from drivers.held import Held, held
from drivers.probe import nvidia_gpus, probe
from drivers.protocols import Engine


def weigher(config: Config) -> Callable[[bool], Held]:
    """Says how much memory the engine's processes hold; NVML is asked where they are on a GPU."""
    if config.engine.kind == "fake":
        return lambda _: Held(0, 0)  # it has none
    with_nvml = config.engine.device != "cpu" and bool(nvidia_gpus()) and not probe().unified
    return lambda on_gpu: held(on_gpu=on_gpu and with_nvml)


def build_hours(config: Config, clock: Clock) -> GoodHours:
    """Raises ConfigError if nothing could say which hours those are."""
    defer, table, signal = config.defer, None, None
    if defer.good_hours != "none":
        name = "per_kwh" if defer.good_hours == "cheap" else "co2_g_per_kwh"
        if (by_hour := rate(getattr(config.tariff, name))) is None:
            raise ConfigError(f"defer.good_hours: tariff.{name} does not say which they are")
        table = GoodTable(by_hour)
    if defer.topic:
        if not config.mqtt.enabled:
            raise ConfigError("mqtt.enabled: defer.topic is heard over MQTT only")
        signal = Signal(
            defer.topic, field=defer.topic_field, at_most=defer.topic_at_most, clock=clock
        )
    return GoodHours(table, signal, clock)


def engine_settings(config: Config) -> defaults.Settings:
    """What the engine is told on this machine: the file's values, and what "auto" means here."""
    return defaults.settings(config.engine, probe(), model_facts(Path(served(config.engine.model))))


def _graph_sizes(
    asked: tuple[int, ...] | Literal["auto"], device: str
) -> tuple[int, ...] | Literal["few"]:
    if asked != "auto":
        return asked
    return "few" if device == "cuda" else ()  # a CPU has no graphs


def build_engine(config: Config, *, fake: bool = False) -> Engine:
    """The engine that the configuration names. Raises ConfigError if it cannot be started."""
    settings, chosen = config.engine, engine_settings(config)
    if fake or settings.kind == "fake":
        from drivers.fake import FakeEngine

        return FakeEngine(start_s=1.0, token_s=0.02, lacks={"park": "there is no GPU to leave"})
    from drivers.power_client import find_checkpointer
    from drivers.vllm import VllmEngine
    from drivers.vllm_settings import Settings

    if not os.access(settings.python, os.X_OK):
        raise ConfigError(
            f"engine.python: {settings.python} is no program; "
            "name the interpreter of a virtual environment that has vLLM"
        )
    device = settings.device
    if device == "auto":
        device = "cuda" if nvidia_gpus() else "cpu"
    env, model = dict(settings.env), served(settings.model)
    if in_the_box(model) and device == "cpu":
        # The model in the box is so small that a second thread only waits for the first
        # (docs/measurements, 2026-11-21).
        env.setdefault("OMP_NUM_THREADS", "1")
    return VllmEngine(
        python=Path(settings.python),
        model=model,
        served_name=settings.alias,
        runtime_dir=Path(config.runtime_dir) / settings.alias,
        cache_dir=config.cache_dir,
        args=settings.args,
        env=env,
        device=device,
        settings=Settings(
            max_model_len=settings.max_model_len or None,
            kv_cache_bytes=chosen.kv_cache_bytes,
            max_num_seqs=chosen.max_running,
            enforce_eager=chosen.enforce_eager,
            compile=settings.compile or device != "cuda",
            load_format=chosen.load_format,
            quantization=settings.quantization,
            speculative_ngram_tokens=settings.speculative_ngram_tokens,
            priority_scheduling=settings.priority_scheduling,
            prefix_caching=None if settings.prefix_caching == "auto" else settings.prefix_caching,
            cudagraph_capture_sizes=_graph_sizes(settings.cudagraph_capture_sizes, device),
            startup_plan=settings.startup_plan,
        ),
        start_timeout_s=settings.start_timeout_s,
        stop_timeout_s=settings.stop_timeout_s,
        stall_timeout_s=settings.stall_timeout_s,
        sleep_level=0 if "sleep" in chosen.without else settings.sleep_level,
        warm_host="host" not in chosen.without,
        checkpointer=None if "park" in chosen.without else find_checkpointer(),
    )
