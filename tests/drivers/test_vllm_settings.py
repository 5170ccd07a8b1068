from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.vllm_failures import SHORT_OF_MEMORY, Failure, Kind
from drivers.vllm_settings import (
    STEPS,
    Settings,
    Steps,
    changed,
    descend,
    differences,
    few_sizes,
    flags_of,
    variables_of,
)
from drivers.vllm_versions import Install, Row, row_for

OLD, NEW = (row_for(Install("vllm", version)) for version in ("0.11.0", "0.32.0"))
OOM = Failure(kind="out_of_memory")


def path(asked: Settings, *failures: Failure, args: tuple[str, ...] = ()) -> list[Settings]:
    """The settings of each start, the first of them as asked for, while each fails thus."""
    steps: Steps = {}
    tried = [asked]
    for failure in failures:
        further = descend(asked, steps, failure, args=args)
        if further is None:
            break
        steps = further
        tried.append(changed(asked, steps))
    return tried


def test_a_cache_that_was_asked_for_is_halved_first() -> None:
    """Then fewer requests, then no graphs, then all of it again; and that is the end."""
    asked = Settings(kv_cache_bytes=8 << 30, max_num_seqs=64)

    assert [
        (s.kv_cache_bytes or 0) >> 30 for s in path(asked, *[OOM] * 9)
    ] == [8, 4, 4, 4, 2, 2]  # fmt: skip
    assert [s.max_num_seqs for s in path(asked, *[OOM] * 9)] == [64, 64, 16, 16, 16, 4]
    assert [s.enforce_eager for s in path(asked, *[OOM] * 9)] == [False] * 3 + [True] * 3


def test_a_measured_cache_becomes_smaller_with_its_share() -> None:
    """vLLM fills its share of the memory with it: so, a smaller share."""
    assert path(Settings(), OOM)[-1].memory_share == pytest.approx(0.9 * 0.85, abs=0.01)
    assert path(Settings(memory_share=0.5), OOM)[-1].memory_share == pytest.approx(
        0.5 * 0.85, abs=0.01
    )


def test_beside_another_program_it_takes_what_is_free() -> None:
    """A share a little below what was free, once; a tenth is the least."""
    taken = Failure(kind="memory_taken", free_share=0.55, others=True)

    assert [s.memory_share for s in path(Settings(), taken, taken)] == [None, 0.52]
    assert path(Settings(), replace(taken, free_share=0.1)) == [Settings()]


def test_a_context_that_nobody_asked_for_is_shortened() -> None:
    """To what would fit, less a tenth. One that somebody asked for is a promise."""
    small = Failure(kind="cache_too_small", fits_tokens=17200)

    assert path(Settings(), small)[-1] == Settings(max_model_len=15472)
    assert path(Settings(max_model_len=32768, kv_cache_bytes=1 << 30), small) == [
        Settings(max_model_len=32768, kv_cache_bytes=1 << 30)
    ]
    assert path(Settings(), replace(small, fits_tokens=100))[-1].max_model_len is None


def test_everything_else_makes_room_for_a_measured_cache() -> None:
    """If the context may not be shortened: fewer requests, no graphs."""
    small = Failure(kind="cache_too_small", fits_tokens=17200)
    tried = path(Settings(max_model_len=32768), *[small] * 9)

    assert [(s.max_num_seqs, s.enforce_eager) for s in tried] == [
        (None, False),
        (16, False),
        (16, True),
        (4, True),
    ]


def test_a_cache_halved_in_vain_is_whole_again() -> None:
    """Half of it did not hold one request: then something else has to be smaller."""
    asked = Settings(kv_cache_bytes=1 << 30, max_model_len=4096, max_num_seqs=64)
    tried = path(asked, OOM, Failure(kind="cache_too_small"), OOM, OOM, OOM)

    assert tried == [
        asked,
        replace(asked, kv_cache_bytes=1 << 29),
        replace(asked, max_num_seqs=16),
        replace(asked, max_num_seqs=16, enforce_eager=True),
        replace(asked, max_num_seqs=4, enforce_eager=True),
    ]


@pytest.mark.parametrize(
    "args",
    [
        ("--enforce-eager",),
        ("--no-enforce-eager",),
        ("--max_num_seqs=8",),
        ("--gpu-memory-utilization", "0.5"),
    ],
)
def test_what_the_operator_says_in_arguments_is_left_alone(args: tuple[str, ...]) -> None:
    """It would win: a step that changes it would be a start for nothing."""
    field = {"e": "enforce_eager", "m": "max_num_seqs", "g": "memory_share"}
    name = field[args[0].removeprefix("--no-").removeprefix("--")[0]]
    tried = path(Settings(), *[OOM] * 9, args=args)

    assert {getattr(settings, name) for settings in tried} == {getattr(Settings(), name)}


failures = st.builds(
    Failure,
    kind=st.sampled_from(sorted(SHORT_OF_MEMORY)),
    free_share=st.none() | st.floats(0, 1),
    fits_tokens=st.none() | st.integers(0, 1 << 20),
)
settings = st.builds(
    Settings,
    max_model_len=st.none() | st.integers(1, 1 << 20),
    kv_cache_bytes=st.none() | st.integers(1, 1 << 40),
    memory_share=st.none() | st.floats(0.01, 1),
    max_num_seqs=st.none() | st.integers(1, 1024),
    enforce_eager=st.booleans(),
)


@given(asked=settings, why=st.lists(failures, min_size=20, max_size=20))
def test_however_it_fails_it_comes_to_an_end(asked: Settings, why: list[Failure]) -> None:
    """No more starts than steps, no settings tried twice in a row, none larger than asked."""
    tried = path(asked, *why)

    assert len(tried) <= 1 + len(STEPS)
    assert all(now != then for now, then in pairwise(tried))
    for one in tried:
        assert (one.max_num_seqs or 0) <= (asked.max_num_seqs or 16)
        assert (one.kv_cache_bytes or 0) <= (asked.kv_cache_bytes or 0)
        assert one.enforce_eager or not asked.enforce_eager


@pytest.mark.parametrize("kind", ["bad_flag", "no_model", "bad_model", "no_device", "unknown"])
def test_only_want_of_memory_is_answered_by_less(kind: Kind) -> None:
    """A start that fails for another reason would fail smaller, too."""
    assert descend(Settings(), {}, Failure(kind=kind)) is None


def test_differences_are_told_in_words() -> None:
    """What is smaller, and what it would have been."""
    asked = Settings(kv_cache_bytes=1 << 30, max_num_seqs=64)
    less = replace(asked, kv_cache_bytes=1 << 29, max_num_seqs=16, enforce_eager=True)

    assert differences(less, asked) == (
        "kv_cache_mib 512 instead of 1024",
        "max_running 16 instead of 64",
        "enforce_eager",
    )
    assert differences(Settings(memory_share=0.5), Settings()) == ("gpu_memory_utilization 0.5",)
    assert differences(asked, asked) == ()


@pytest.mark.parametrize("row", [OLD, NEW], ids=["0.11", "0.32"])
def test_every_setting_reaches_the_command_line(row: Row) -> None:
    """As vLLM calls it, in every version; and nothing that was not asked for."""
    assert flags_of(Settings(), row) == []
    told: dict[str, tuple[Any, list[str]]] = {
        "max_model_len": (4096, ["--max-model-len", "4096"]),
        "kv_cache_bytes": (1 << 30, ["--kv-cache-memory-bytes", "1073741824"]),
        "memory_share": (0.5, ["--gpu-memory-utilization", "0.5"]),
        "max_num_seqs": (8, ["--max-num-seqs", "8"]),
        "enforce_eager": (True, ["--enforce-eager"]),
        "quantization": ("fp8", ["--quantization", "fp8"]),
        "speculative_ngram_tokens": (
            4,
            ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 4}'],
        ),
        "priority_scheduling": (True, ["--scheduling-policy", "priority"]),
        "prefix_caching": (False, ["--no-enable-prefix-caching"]),
    }
    for name, (value, flags) in told.items():
        assert flags_of(replace(Settings(), **{name: value}), row) == flags
    assert flags_of(Settings(prefix_caching=True), row) == ["--enable-prefix-caching"]


@pytest.mark.parametrize(
    ("version", "flag", "variables"),
    [
        ("0.11.0", "--cuda-graph-sizes", {}),
        ("0.12.0", "--cudagraph-capture-sizes", {}),
        ("0.25.1", "--cudagraph-capture-sizes", {}),
        ("0.26.0", "--cudagraph-capture-sizes", {"VLLM_ENABLE_STARTUP_PLAN": "1"}),
        ("0.33.0", "--cudagraph-capture-sizes", {"VLLM_ENABLE_STARTUP_PLAN": "1"}),
    ],
)
def test_what_versions_call_differently_or_lack(
    version: str, flag: str, variables: dict[str, str]
) -> None:
    """Each gets its own name for it, and nothing that it does not know."""
    row = row_for(Install("vllm", version))
    asked = Settings(cudagraph_capture_sizes=(1, 2, 4), startup_plan=True)

    assert flags_of(asked, row) == [flag, "1", "2", "4"]
    assert variables_of(asked, row) == variables
    assert variables_of(Settings(), row) == {}


def test_without_graphs_none_is_captured() -> None:
    """Sizes say nothing to an engine that the ladder has brought to run without graphs."""
    asked = Settings(cudagraph_capture_sizes=(1, 2), enforce_eager=True)

    assert flags_of(asked, NEW) == ["--enforce-eager"]


@pytest.mark.parametrize(
    ("at_once", "tokens_each", "sizes"),
    [
        (1, 1, "1 2 4 8 16 24 32 48 64 96 128"),
        (4, 1, "1 2 4 8 16 24 32 48 64 96 128"),
        (64, 1, "1 2 4 8 16 24 32 48 64 96 128"),
        (10, 1, "1 2 4 8 10 16 24 32 48 64 96 128"),
        (64, 5, "1 2 4 8 16 24 32 48 64 96 128 192 256 320"),
        (1000, 1, "1 2 4 8 16 24 32 48 64 96 128 192 256 384 512"),
    ],
)
def test_few_sizes(at_once: int, tokens_each: int, sizes: str) -> None:
    """Where vLLM would capture 19 for 64 requests, and 51 for 256."""
    asked = Settings(
        cudagraph_capture_sizes="few",
        max_num_seqs=at_once,
        speculative_ngram_tokens=tokens_each - 1,
    )
    told = flags_of(asked, NEW)

    assert told[told.index("--cudagraph-capture-sizes") + 1 :] == sizes.split()


@given(at_once=st.integers(1, 2000), tokens_each=st.integers(1, 65), data=st.data())
def test_few_sizes_waste_little(at_once: int, tokens_each: int, data: st.DataObject) -> None:
    """Each step that has a graph fits one of which a third at most is filling, from 16 on."""
    sizes = few_sizes(at_once, tokens_each)
    full = min(at_once * tokens_each, 512)
    tokens = data.draw(st.integers(1, max(full, 128)))
    size = min(size for size in sizes if size >= tokens)

    assert full in sizes
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) <= 16
    assert size - tokens < (size / 3 if tokens > 16 else max(1, size / 2))


@pytest.mark.parametrize(
    "args",
    [
        ("--max-cudagraph-capture-size", "32"),
        ("--cudagraph_capture_sizes", "1", "2"),
        ("--compilation-config={}",),
        ("-O1",),
        ("-cc.cudagraph_mode=NONE",),
        ("--performance-mode", "interactivity"),
    ],
)
def test_the_operators_words_on_graphs_stand_alone(args: tuple[str, ...]) -> None:
    """vLLM refuses two opinions; sizes that the file names are the operator's own, too."""
    few = Settings(cudagraph_capture_sizes="few", max_num_seqs=4)
    named = replace(few, cudagraph_capture_sizes=(1, 2))

    assert flags_of(few, NEW, args) == ["--max-num-seqs", "4"]
    assert flags_of(named, NEW, args)[2:] == ["--cudagraph-capture-sizes", "1", "2"]
    assert len(flags_of(few, NEW, ("--dtype", "auto", "--other"))) > 4


def test_fewer_requests_need_fewer_sizes() -> None:
    """What the ladder takes from the requests it takes from the graphs."""
    asked = Settings(cudagraph_capture_sizes="few", max_num_seqs=256)
    smaller = path(asked, OOM, OOM)[-1]

    assert smaller.max_num_seqs == 16
    assert (flags_of(smaller, NEW)[-1], flags_of(asked, NEW)[-1]) == ("128", "256")


def test_graphs_without_compiling() -> None:
    """Of decoding alone, so none larger than it can fill; where a version can do that."""
    asked = Settings(compile=False, cudagraph_capture_sizes="few", max_num_seqs=10)
    told = flags_of(asked, NEW)[2:]

    assert told[0] == "--compilation-config"
    assert json.loads(told[1]) == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    assert told[2:] == ["--cudagraph-capture-sizes", "1", "2", "4", "8", "10"]
    assert flags_of(replace(asked, cudagraph_capture_sizes=()), NEW)[2:] == told[:2]
    assert flags_of(asked, NEW, ("-O1",)) == ["--max-num-seqs", "10"]
    assert "--compilation-config" not in flags_of(asked, OLD)
    assert flags_of(replace(asked, enforce_eager=True), NEW)[2:] == ["--enforce-eager"]


def test_the_fastest_loader() -> None:
    """Is a flag and a variable, where the engine has it and nobody says otherwise."""
    has, lacks = (
        row_for(Install("vllm", "0.32.0", "2.13.0", is_there)) for is_there in (True, False)
    )
    fastest = Settings(load_format="fastest")

    assert flags_of(fastest, has) == ["--load-format", "instanttensor"]
    assert variables_of(fastest, has) == {"INSTANTTENSOR_BACKEND": "BUFFERED"}
    assert flags_of(fastest, has, ("--load_format=dummy",)) == []
    assert (flags_of(fastest, lacks), variables_of(fastest, lacks)) == ([], {})
    assert flags_of(Settings(load_format="mistral"), has) == ["--load-format", "mistral"]
    assert flags_of(fastest, row_for(Install("vllm", "0.18.0", "", instant=True))) == []


def test_whoever_says_no_number_gets_vllms_sizes() -> None:
    """Without a number of requests there is nothing to go by; without graphs, no need."""
    few = Settings(cudagraph_capture_sizes="few")

    assert flags_of(few, NEW) == []
    assert flags_of(replace(few, max_num_seqs=4, enforce_eager=True), NEW) == [
        "--max-num-seqs",
        "4",
        "--enforce-eager",
    ]
