from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.errors import Died, NotPermitted, NotPresent, NotSupported, OutOfMemory, Refused
from drivers.host_memory import Memory
from drivers.probe import Gpu, Machine
from drivers.vllm_fit import Fit, key_on
from drivers.vllm_settings import Settings
from drivers.vllm_versions import Install
from tests.drivers.test_vllm_failures import SAID

ASKED = Settings(kv_cache_bytes=1 << 30, max_num_seqs=64)
OOM = ["CUDA out of memory"]
BESIDE = ["CUDA out of memory. Process 7 has 2.50 GiB memory in use."]
TAKEN = [
    "ValueError: Free memory (20.0/80.0 GiB) is less than desired GPU memory utilization (0.9)."
]
SHORT = [
    (
        "To serve at least one request with the model's max seq len (9), 16.0 GiB is needed; the"
        " estimated maximum model length is 16384."
    )
]
HALF = ("kv_cache_mib 512 instead of 1024",)


def fit(place: Path, *, key: str = "k", asked: Settings = ASKED) -> Fit:
    """As a daemon that has just started sees it."""
    made = Fit(place / "fit.json", asked)
    made.begin(key)
    return made


def test_the_next_daemon_begins_where_it_worked(place: Path) -> None:
    """A step that led to an engine that serves is kept; and gone with another key."""
    first = fit(place)

    assert isinstance(first.failed("vllm", OOM, 1), OutOfMemory)

    first.begin("k")
    first.worked()

    assert fit(place).smaller == HALF
    assert fit(place, key="another model").smaller == ()


def test_what_has_not_worked_is_not_kept(place: Path) -> None:
    """A daemon that is killed between two starts leaves nothing for the next one."""
    fit(place).failed("vllm", OOM, 1)

    assert fit(place).smaller == ()


def test_beside_others_it_is_for_this_time_only(place: Path) -> None:
    """They may be gone by the next start; so that one is as large as was asked for."""
    one = fit(place)
    one.failed("vllm", BESIDE, 1)

    assert one.smaller == HALF

    one.begin("k")
    one.worked()

    assert list(one.smaller) == list(HALF)
    assert fit(place).smaller == ()

    one.begin("k")

    assert not one.smaller


def test_what_is_needed_only_beside_others_goes_with_them(place: Path) -> None:
    """A context that is short because the share is small is long again when they have left."""
    one = fit(place, asked=Settings())
    one.failed("vllm", TAKEN, 1)
    one.begin("k")
    one.failed("vllm", SHORT, 1)
    one.begin("k")
    one.worked()

    assert [told.split()[0] for told in one.smaller] == ["max_model_len", "gpu_memory_utilization"]
    assert fit(place, asked=Settings()).smaller == ()

    one.begin("k")

    assert one.smaller == ()


def test_what_was_kept_outlasts_the_others(place: Path) -> None:
    """Not even a halving that is in vain beside them is taken back for good."""
    one = fit(place)
    one.failed("vllm", OOM, 1)
    one.begin("k")
    one.worked()
    one.begin("k")
    one.failed("vllm", TAKEN, 1)
    one.begin("k")
    one.failed("vllm", SHORT, 1)
    one.begin("k")
    one.failed("vllm", SHORT, 1)
    one.begin("k")

    assert not set(HALF) & set(one.smaller)

    one.worked()

    assert fit(place).smaller == HALF


def test_the_end_of_the_ladder_beside_others_passes(place: Path) -> None:
    """Whichever failure was the last: with all of the memory it may fit."""
    one = fit(place, asked=Settings(max_model_len=8192))
    one.failed("vllm", TAKEN, 1)
    error: Exception = OutOfMemory("vllm", 1)
    while isinstance(error, OutOfMemory):
        one.begin("k")
        error = one.failed("vllm", SHORT, 1)

    assert isinstance(error, Refused)


def test_what_the_kernel_killed_may_fit_another_time(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may have taken the host's memory."""
    kills = iter([3, 4])
    monkeypatch.setattr("drivers.vllm_fit.oom_kills", lambda: next(kills, 4))
    one = fit(place)

    assert isinstance(one.failed("vllm", ["loading weights"], -9), OutOfMemory)

    one.begin("k")
    one.worked()

    assert one.smaller == HALF
    assert fit(place).smaller == ()


def test_what_the_kernel_killed_again_does_not_fit(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller it worked in between: the next daemon, too, begins with that."""
    kills = iter(range(100))
    monkeypatch.setattr("drivers.vllm_fit.oom_kills", lambda: next(kills))
    one = fit(place)
    for _ in range(2):
        assert isinstance(one.failed("vllm", ["loading weights"], -9), OutOfMemory)
        one.begin("k")
        one.worked()
        assert one.smaller == HALF
        one.begin("k")

    assert fit(place).smaller == HALF


def test_each_start_that_fails_says_what_comes_next(place: Path) -> None:
    """And the last one that nothing does, with what there is to do."""
    one, told = fit(place), []
    for _ in range(20):
        one.begin("k")
        told.append(one.failed("vllm", OOM, 1))

    ladder = [error for error in told if isinstance(error, OutOfMemory)]

    assert 0 < len(ladder) <= 6
    assert "CUDA out of memory; the next start has kv_cache_mib 512" in str(ladder[0])
    assert all(isinstance(error, NotSupported) for error in told[len(ladder) :])
    assert "max_running 4 instead of 64" in str(told[-1])
    assert "choose a smaller or quantized model" in str(told[-1])


def test_a_loader_that_fails_is_left_out(place: Path) -> None:
    """The next start reads as vLLM does, and that is remembered; who asked for it is told."""
    one = Fit(place / "fit.json", Settings(load_format="fastest"))
    one.begin("k")
    error = one.failed("vllm", [SAID["loader"][1]], 1)
    one.worked()

    assert isinstance(error, Died)
    assert "the next start loads without InstantTensor" in str(error)
    assert one.settings.load_format == ""
    assert one.smaller == ("load_format vLLM's own instead of fastest",)

    asked = Fit(place / "fit.json", Settings(), ("--load-format", "instanttensor"))

    assert isinstance(asked.failed("vllm", [SAID["loader"][1]], 1), NotSupported)


def test_a_loader_that_fails_beside_others_fails_alone(place: Path) -> None:
    """It is left out for good: it was not for want of memory."""
    one = fit(place, asked=Settings(load_format="fastest"))
    one.failed("vllm", TAKEN, 1)
    one.begin("k")
    one.failed("vllm", [SAID["loader"][1]], 1)
    one.begin("k")
    one.worked()
    kept = fit(place, asked=Settings(load_format="fastest"))

    assert kept.smaller == ("load_format vLLM's own instead of fastest",)


def test_without_room_beside_others_it_waits_for_them(place: Path) -> None:
    """That is no fault of the settings, and passes."""
    line = SAID["share, 0.11"][1].replace("(6.44/11.63", "(0.40/11.63")
    error = fit(place).failed("vllm", [line], 1)

    assert isinstance(error, Refused)
    assert "end them" in str(error)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unknown flag", NotSupported),
        ("architecture", NotSupported),
        ("sleep on a CPU", NotSupported),
        ("no weights", NotPresent),
        ("driver", NotPresent),
        ("another user's", NotPermitted),
        ("disk", Died),
        ("socket", Died),
        ("else", Died),
    ],
)
def test_failures_are_sorted_by_what_may_be_done_next(
    place: Path, name: str, kind: type[Exception]
) -> None:
    """What comes again until a person acts is told apart from what may pass."""
    error = fit(place).failed("vllm", [SAID[name][1]], 1)

    assert type(error) is kind
    assert SAID[name][1].rsplit("] ", 1)[-1].removeprefix("  Value error, ")[:60] in str(error)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k", "steps": {"x": {"no_field": 1}}}'])
def test_a_file_that_says_nothing_is_no_file(place: Path, text: str) -> None:
    """Cut short, or of another version of ours."""
    (place / "fit.json").write_text(text)

    assert fit(place).smaller == ()


def test_a_place_that_cannot_be_written_ends_nothing(place: Path) -> None:
    """A full disk costs the memory of it, not the engine."""
    (place / "full").touch()
    one = Fit(place / "full/fit.json", ASKED)
    one.begin("k")
    one.failed("vllm", OOM, 1)
    one.worked()

    assert one.smaller == HALF


def test_the_key_is_of_what_was_asked_for_and_where(place: Path) -> None:
    """Another model, flag or amount of memory is another key; a GPU's first use is not."""
    gpu = Gpu(address="0000:3b:00.0", model="A2000")
    small, large = (
        Machine(gpus=(gpu,), memory=Memory(total_bytes=gib << 30), absent={}) for gib in (8, 16)
    )
    used = replace(small, gpus=(replace(gpu, uuid="GPU-1"),))

    def key(machine: Machine = small, model: str = str(place), flag: str = "--x") -> str:
        install = Install("vllm", "0.32.0")
        return key_on(machine, model, install, [flag], {})

    assert key() == key(used)
    assert len({key(), key(large), key(model="org/name"), key(flag="--y")}) == 4
