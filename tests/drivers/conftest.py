"""Fixtures that are real: short private directories, and a look at who is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import required
from tests.fakes.cuda import FakeCuda, compiler, sleeping


@pytest.fixture
def place() -> Iterator[Path]:
    """A private directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="wn-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def real_gpu() -> None:
    """Skips where there is no GPU to use. The device files say so, not the probe under test."""
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA GPU here")


@pytest.fixture(autouse=True)
def nobody_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child process behind.

    Tests that share an engine with others of their module are left out: the
    engine may be started anew in any of them.
    """
    before = set(children())
    yield
    if "shared_engine" not in request.fixturenames:
        assert not set(children()) - before


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture
def cuda(place: Path) -> FakeCuda:
    """A libcuda that checkpoints nothing. Skips without a compiler."""
    required("gcc", compiler())
    place.chmod(0o755)
    return FakeCuda(place / "cuda")


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """The pid of a process, and a pidfd of it."""
    with sleeping() as (process,):
        pidfd = os.pidfd_open(process.pid)
        yield process.pid, pidfd
        os.close(pidfd)


@pytest.fixture
def cuda_here(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """That libcuda for whatever this process starts."""
    for name in ("FAKE_CUDA", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, cuda.env[name])
    return cuda
