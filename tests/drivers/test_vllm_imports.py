"""How a warm host tells whether it has begun to use the GPU: libraries that answer as NVIDIA's.

What they answer was seen on a GPU (docs/measurements/2026-11-21-ladder-h200.md). In a process of
its own, since a library stays.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import required
from tests.fakes.cuda import FakeCuda, compiler


@pytest.fixture
def cuda(tmp_path: Path) -> FakeCuda:
    required("gcc", compiler())
    return FakeCuda(tmp_path / "cuda")


def said(program: str, cuda: FakeCuda) -> str:
    """What a Python prints that has those libraries on its path."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=cuda.env | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_cuda_says_itself_whether_it_was_begun(cuda: FakeCuda) -> None:
    """Not there, there, initialized; and asking alone does not load it."""
    program = """
import ctypes
from drivers import vllm_imports
from drivers.vllm_imports import on_gpu
vllm_imports.UNIFIED_MEMORY = ("/dev/null",)
told = [on_gpu(), "libcuda" in open("/proc/self/maps").read()]
cuda = ctypes.CDLL("libcuda.so.1")
told.append(on_gpu())
cuda.cuInit(0)
told.append(on_gpu())
print(*told)
"""
    assert said(program, cuda) == "False False False True"


def test_nvml_is_let_go_by_whoever_forgot_to(cuda: FakeCuda) -> None:
    """However many have initialized it; and where it is not there, nothing happens."""
    program = """
import ctypes
from drivers.vllm_imports import let_go_of_nvml
let_go_of_nvml()
nvml = ctypes.CDLL("libnvidia-ml.so.1")
for _ in range(6):
    nvml.nvmlInit_v2()
let_go_of_nvml()
print(ctypes.c_int.in_dll(nvml, "users").value)
"""
    assert said(program, cuda) == "0"


def test_a_servers_paths_are_imported_with_it(tmp_path: Path) -> None:
    """Whatever they are called in this version; but not those that no server of ours has."""
    package = tmp_path / "vllm"
    routers = ("generate", "openai/models", "pooling/embed", "serve/dev/sleep")
    for folder in ("", "entrypoints", *(f"entrypoints/{name}" for name in routers)):
        (package / folder).mkdir(parents=True, exist_ok=True)
        (package / folder / "__init__.py").touch()
    for name in routers:
        (package / "entrypoints" / name / "api_router.py").touch()
    (package / "entrypoints/openai/serving.py").touch()
    program = "import vllm\nfrom drivers.vllm_imports import routers\nprint(*routers())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [
        "vllm.entrypoints.generate.api_router",
        "vllm.entrypoints.openai.models.api_router",
    ]
