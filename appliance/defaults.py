"""What the engine is told where the configuration says "auto": pure, from the machine's facts.

A value in the file always wins. Where CPU and GPU share their memory (a Jetson), the
usual defaults would take it from everything else that runs there, so they are smaller;
none of those has been tried on a board (docs/jetson.md). Without a GPU, starting takes
longer than answering, so it does without what makes starts slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.config import Engine
from appliance.model_facts import ModelFacts
from drivers.probe import Machine
from drivers.protocols import Rest

GIB, MIB = 1 << 30, 1 << 20

MAX_RUNNING = 64
MAX_RUNNING_UNIFIED = 4

# Of unified memory, for all but weights and KV cache: a system without a desktop (1 GiB,
# estimated), vLLM's two processes (1 GiB, measured on a CPU), CUDA, PyTorch and what
# passes through the layers (2 GiB, estimated).
REST_BYTES = 4 * GIB
# Of what is left then, so that a neighbour on the board can still start.
KV_SHARE = 4
KV_LEAST_BYTES, KV_MOST_BYTES = 128 * MIB, 4 * GIB
KV_STEP_BYTES = 64 * MIB
# Of what all requests at once can fill: the other half keeps what the next ones may share.
KV_USE = 2

WARM_HOST_FROM_BYTES = 14 * GIB
"""What a board sold with 16 GB says it has is a little less than 15.3 GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What depends on the machine.

    kv_cache_bytes  None: the engine measures what is free
    load_format     "fastest": as fast as the engine can; "": as vLLM does
    without         ways to rest that are no good here -> why, in words for people
    """

    kv_cache_bytes: int | None
    max_running: int
    enforce_eager: bool
    load_format: str
    without: Mapping[Rest, str]


def settings(engine: Engine, machine: Machine, model: ModelFacts) -> Settings:
    """The file's values, and for each "auto" the one for this machine and model."""
    unified, on_cpu = machine.unified, _on_cpu(engine, machine)
    shared = unified or on_cpu
    kv, running, eager = engine.kv_cache_mib, engine.max_running, engine.enforce_eager
    if running == "auto":
        running = MAX_RUNNING_UNIFIED if unified else MAX_RUNNING
    if kv == "auto":
        total = machine.memory.total_bytes
        useful = useful_kv_bytes(model, running, engine.max_model_len)
        most = shared_kv_bytes(total, model.weights_bytes)
        kv_bytes = min(most, useful) if shared and total else None
    else:
        kv_bytes = kv * MIB or None
    if eager == "auto":
        eager = unified or (on_cpu and not engine.compile)
    load_format = engine.load_format
    if load_format == "auto":
        # Where memory is shared, what InstantTensor takes for the device counts twice.
        load_format = "fastest" if model.safetensors and not shared else ""
    return Settings(
        kv_cache_bytes=kv_bytes,
        max_running=running,
        enforce_eager=eager,
        load_format=load_format,
        without=_without(engine, machine),
    )


def _on_cpu(engine: Engine, machine: Machine) -> bool:
    """There vLLM would want 0.92 of all memory to be free, and start a second time with less."""
    return engine.device == "cpu" or (engine.device == "auto" and not machine.gpus)


def shared_kv_bytes(total_bytes: int, weights_bytes: int) -> int:
    """A quarter of what weights and all else leave, between 128 MiB and 4 GiB.

    A model of unknown size counts as a quarter of the memory.
    """
    weights_bytes = weights_bytes or total_bytes // 4
    left = (total_bytes - REST_BYTES - weights_bytes) // KV_SHARE
    return max(KV_LEAST_BYTES, min(KV_MOST_BYTES, left // KV_STEP_BYTES * KV_STEP_BYTES))


def useful_kv_bytes(model: ModelFacts, running: int, asked_tokens: int) -> int:
    """More than that no requests can fill, so many at once; KV_MOST_BYTES if nobody knows.

    asked_tokens  prompt and answer at most; 0: the model's own
    """
    tokens = asked_tokens or model.longest_tokens
    full = KV_USE * running * tokens * model.token_bytes or KV_MOST_BYTES
    return max(KV_LEAST_BYTES, -(-full // KV_STEP_BYTES) * KV_STEP_BYTES)


def _without(engine: Engine, machine: Machine) -> dict[Rest, str]:
    reasons: dict[Rest, str] = {}
    if engine.warm_host == "off":
        reasons["host"] = "engine.warm_host is off"
    if not machine.unified:
        return reasons
    reasons["park"] = "CPU and GPU share their memory: parked, the model would take as much of it"
    if engine.sleep_level == 1:
        reasons["sleep"] = "CPU and GPU share their memory: level 1 only moves the model within it"
    if engine.warm_host == "auto" and machine.memory.total_bytes < WARM_HOST_FROM_BYTES:
        reasons["host"] = "a warm host holds 1 GB, too much of less than 16 GB"
    return reasons
