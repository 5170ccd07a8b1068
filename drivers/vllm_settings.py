"""What a vLLM server may be told about its size and speed, and how to make it smaller.

Pure. A step down is chosen by why the last start failed; each is taken at most once, so
that there are at most as many starts as steps, and then an end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from drivers.vllm_failures import Failure, Kind
from drivers.vllm_versions import Row

Changes = Mapping[str, Any]
"""Fields of Settings -> their new values."""
Steps = Mapping[str, Changes]
"""Steps down that have been taken, in order -> what each has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """None, "", 0 or (): vLLM decides, by model, device and version.

    max_model_len              longest prompt plus answer, in tokens
    kv_cache_bytes             memory for the KV cache; None: of its share, what is left
    memory_share               of the device's memory, for weights and cache (0 to 1)
    max_num_seqs               requests at once
    enforce_eager              no compilation, no graphs
    compile                    False: kernels as they come, and graphs of decoding alone. Serves
                               3 to 4 % slower, starts in half the time (H200, 13 GB, 0.26)
    load_format                how weights are read; "fastest": with InstantTensor where the engine
                               has it, unless the operator's flags say how
    quantization               how to read or make the weights smaller
    speculative_ngram_tokens   tokens guessed ahead from the prompt's own words
    priority_scheduling        a request's priority counts inside vLLM too
    prefix_caching             what prompts share is computed once
    cudagraph_capture_sizes    batch sizes for which a graph is captured at the start; "few":
                               those of few_sizes(), unless the operator's flags speak of graphs
    startup_plan               the measured cache size is kept for the next start
    """

    max_model_len: int | None = None
    kv_cache_bytes: int | None = None
    memory_share: float | None = None
    max_num_seqs: int | None = None
    enforce_eager: bool = False
    compile: bool = True
    load_format: str = ""
    quantization: str = ""
    speculative_ngram_tokens: int = 0
    priority_scheduling: bool = False
    prefix_caching: bool | None = None
    cudagraph_capture_sizes: tuple[int, ...] | Literal["few"] = ()
    startup_plan: bool = False


# What vLLM takes of a device's memory if it is told nothing (config/cache.py: 0.9, from
# some version on 0.92).
USUAL_SHARE = 0.9
# Below these nobody would call it an engine.
LEAST_SHARE = 0.1
LEAST_TOKENS = 256
LEAST_CACHE_BYTES = 16 << 20

MEMORY: frozenset[Kind] = frozenset({"out_of_memory"})
CACHE: frozenset[Kind] = frozenset({"cache_too_small"})
TAKEN: frozenset[Kind] = frozenset({"memory_taken"})
LOADER: frozenset[Kind] = frozenset({"bad_loader"})


def _take_what_is_free(settings: Settings, failure: Failure) -> Changes:
    """vLLM refuses to start unless its whole share is free; so, a smaller share."""
    share = round((failure.free_share or 0.0) - 0.03, 2)
    if share < LEAST_SHARE or share >= (settings.memory_share or 1.0):
        return {}
    return {"memory_share": share}


def _shorten(settings: Settings, failure: Failure) -> Changes:
    """Only where nobody has said how long: then it was the model's utmost that did not fit."""
    # A tenth less than was measured: the next measurement is another one.
    tokens = int((failure.fits_tokens or 0) * 0.9) // 16 * 16
    if settings.max_model_len is not None or tokens < LEAST_TOKENS:
        return {}
    return {"max_model_len": tokens}


def _shrink_cache(settings: Settings, _: Failure) -> Changes:
    if settings.kv_cache_bytes is None:
        share = round((settings.memory_share or USUAL_SHARE) * 0.85, 2)
        return {"memory_share": share} if share >= LEAST_SHARE else {}
    half = settings.kv_cache_bytes // 2
    return {"kv_cache_bytes": half} if half >= LEAST_CACHE_BYTES else {}


def _at_once(limit: int) -> Callable[[Settings, Failure], Changes]:
    def change(settings: Settings, failure: Failure) -> Changes:
        told = settings.max_num_seqs
        fewer = told is None or told > limit
        return {"max_num_seqs": limit} if fewer and _leaves_room(settings, failure) else {}

    return change


def _without_graphs(settings: Settings, failure: Failure) -> Changes:
    more = not settings.enforce_eager and _leaves_room(settings, failure)
    return {"enforce_eager": True} if more else {}


def _load_as_vllm_does(settings: Settings, _: Failure) -> Changes:
    return {"load_format": ""} if settings.load_format else {}


def _leaves_room(settings: Settings, failure: Failure) -> bool:
    """Whether less of everything else helps: a cache of a given size stays as small as it is."""
    return failure.kind != "cache_too_small" or settings.kv_cache_bytes is None


STEPS: dict[str, tuple[frozenset[Kind], Callable[[Settings, Failure], Changes]]] = {
    "share": (TAKEN, _take_what_is_free),
    "context": (CACHE, _shorten),
    "cache": (MEMORY, _shrink_cache),
    "requests": (MEMORY | CACHE, _at_once(16)),
    "graphs": (MEMORY | CACHE, _without_graphs),
    "cache again": (MEMORY, _shrink_cache),
    "requests again": (MEMORY | CACHE, _at_once(4)),
    "loader": (LOADER, _load_as_vllm_does),
}
"""Step -> against what it helps, and what it changes. In order of what it costs users."""
CACHE_STEPS = ("cache", "cache again")

FLAGS = {
    "max_model_len": "--max-model-len",
    "kv_cache_bytes": "--kv-cache-memory-bytes",
    "memory_share": "--gpu-memory-utilization",
    "max_num_seqs": "--max-num-seqs",
    "enforce_eager": "--enforce-eager",
    "load_format": "--load-format",
}
"""How vLLM calls what a step may change."""
INSTANT_TENSOR = "instanttensor"


TOLD = {
    "kv_cache_bytes": ("kv_cache_mib", 1 << 20),
    "max_num_seqs": ("max_running", 1),
    "memory_share": ("gpu_memory_utilization", 1),
}
"""What people call it who configure us, and the size of its unit."""


GRAPH_FLAGS = re.compile(
    "--(max-cudagraph|cudagraph|cuda-graph|compilation-config|optimization-level|performance-mode)"
    "|-O|-cc"
)
"""The operator's own words on graphs: beside them sizes of ours would be refused, or in the way."""
LARGEST_GRAPH = 512  # vLLM's own default goes no further
SHORT_PROMPT = 128
DECODING_ALONE = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
"""Graphs that need no compilation (config/compilation.py)."""


def few_sizes(at_once: int, tokens_each: int, *, prompts: bool = True) -> tuple[int, ...]:
    """Batch sizes, in tokens, for a box on which mostly one request runs, and seldom `at_once`.

    A batch is filled up to the next size, by a third at most from 16 tokens on. The
    largest that decoding can fill is one of them. `tokens_each`: that a request adds to
    a step. `prompts`: prompts use graphs too.
    """
    full = min(at_once * tokens_each, LARGEST_GRAPH)
    most = max(full, SHORT_PROMPT) if prompts else full
    usual = {2**n for n in range(10)} | {3 * 2**n for n in range(3, 8)}
    return tuple(sorted({full} | {size for size in usual if size <= most}))


def flags_of(settings: Settings, row: Row, args: Iterable[str] = ()) -> list[str]:
    """The part of a command line that says this; nothing that the version does not have.

    `args`: the operator's own flags, which come after it.
    """
    args = [arg.replace("_", "-") for arg in args]
    settings = replace(settings, load_format=_load_format(settings, row, args))
    flags: list[str] = []
    for name, flag in FLAGS.items():
        value = getattr(settings, name)
        if value is True:
            flags.append(flag)
        elif value:
            flags += [flag, str(value)]
    if settings.quantization:
        flags += ["--quantization", settings.quantization]
    if tokens := settings.speculative_ngram_tokens:
        told = {"method": "ngram", "num_speculative_tokens": tokens}
        flags += ["--speculative-config", json.dumps(told)]
    if settings.priority_scheduling:
        flags += ["--scheduling-policy", "priority"]
    if settings.prefix_caching is not None:
        flags += [f"--{'' if settings.prefix_caching else 'no-'}enable-prefix-caching"]
    return flags if settings.enforce_eager else [*flags, *_graph_flags(settings, row, args)]


def _graph_flags(settings: Settings, row: Row, args: list[str]) -> list[str]:
    told = any(map(GRAPH_FLAGS.match, args))
    alone = not (settings.compile or told) and row.graphs_alone
    flags = ["--compilation-config", json.dumps(DECODING_ALONE)] if alone else []
    sizes = settings.cudagraph_capture_sizes
    if sizes == "few":
        if told or settings.max_num_seqs is None:
            return flags
        tokens_each = 1 + settings.speculative_ngram_tokens
        sizes = few_sizes(settings.max_num_seqs, tokens_each, prompts=not alone)
    return [*flags, row.graph_sizes, *map(str, sizes)] if sizes else flags


def _load_format(settings: Settings, row: Row, args: list[str]) -> str:
    if settings.load_format != "fastest":
        return settings.load_format
    told = any(arg.startswith(FLAGS["load_format"]) for arg in args)
    return INSTANT_TENSOR if row.instant_tensor and not told else ""


def variables_of(settings: Settings, row: Row) -> dict[str, str]:
    """The part of the environment that says this."""
    variables: dict[str, str] = {}
    if settings.startup_plan and row.startup_plan:
        variables["VLLM_ENABLE_STARTUP_PLAN"] = "1"
    if settings.load_format == "fastest" and row.instant_tensor:
        # By default it reads past the page cache, from which each start but the first is fed.
        variables["INSTANTTENSOR_BACKEND"] = "BUFFERED"
    return variables


def descend(
    asked: Settings, steps: Steps, failure: Failure, *, args: Iterable[str] = ()
) -> Steps | None:
    """The steps down from `asked` for the next start; None: there is no further one.

    `steps`: those of the start that failed. `args`: the operator's own flags; what they
    name is not touched, since it would win.
    """
    named = {re.sub("^--no-", "--", arg.split("=")[0]).replace("_", "-") for arg in args}
    settings = changed(asked, steps)
    for name, (kinds, change) in STEPS.items():
        if name in steps or failure.kind not in kinds:
            continue
        changes = change(settings, failure)
        if changes and not any(FLAGS[field] in named for field in changes):
            return {**steps, name: changes}
    if failure.kind == "cache_too_small" and any(steps.get(name) for name in CACHE_STEPS):
        # It was not the cache that had to be smaller. The step counts as taken.
        undone = {**steps, **{name: {} for name in CACHE_STEPS}}
        return descend(asked, undone, replace(failure, kind="out_of_memory"), args=args)
    return None


def differences(settings: Settings, asked: Settings) -> tuple[str, ...]:
    """In which fields they differ, for people: "max_running 16 instead of 64"."""
    told = []
    for field in fields(Settings):
        now, then = getattr(settings, field.name), getattr(asked, field.name)
        if now == then:
            continue
        name, unit = TOLD.get(field.name, (field.name, 1))
        if now is True:
            told.append(name)
            continue
        now, then = (value // unit if unit > 1 and value else value for value in (now, then))
        now = "vLLM's own" if now == "" else now
        told.append(f"{name} {now} instead of {then}" if then else f"{name} {now}")
    return tuple(told)


def changed(settings: Settings, steps: Steps) -> Settings:
    """`settings` after these steps."""
    for changes in steps.values():
        settings = replace(settings, **changes)
    return settings
