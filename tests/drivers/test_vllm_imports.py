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


def said(program: str, cuda: FakeCuda | None = None, path: Path | None = None) -> str:
    """What a Python prints that has those libraries, and what is in `path`."""
    ours = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=(cuda.env if cuda else {}) | {"PYTHONPATH": f"{path}:{ours}" if path else ours},
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


@pytest.mark.parametrize(
    ("gpus", "told"),
    [("9.0", "9.0"), ("9.0 9.0", "9.0"), ("9.0 8.9", ""), ("9.0 ?", ""), ("", "")],
)
def test_flashinfer_is_told_what_the_gpu_is(
    cuda: FakeCuda, tmp_path: Path, gpus: str, told: str
) -> None:
    """While it is imported, and not afterwards. Who could not be told is not imported."""
    package = tmp_path / "vllm/v1/attention/backends"
    package.mkdir(parents=True)
    (package / "flashinfer.py").write_text(
        "import os\nprint(os.environ['FLASHINFER_CUDA_ARCH_LIST'])"
    )
    program = f"""
import os
os.environ["FAKE_NVML_CAPABILITIES"] = {gpus!r}
from drivers.vllm_imports import import_flashinfer
import_flashinfer()
assert "FLASHINFER_CUDA_ARCH_LIST" not in os.environ
"""
    assert said(program, cuda, tmp_path) == told


def test_what_an_operator_tells_flashinfer_stays(cuda: FakeCuda) -> None:
    program = """
import os
os.environ["FLASHINFER_CUDA_ARCH_LIST"] = "12.0f"
from drivers.vllm_architecture import architecture_told
with architecture_told() as told:
    print(told, os.environ["FLASHINFER_CUDA_ARCH_LIST"])
print(os.environ["FLASHINFER_CUDA_ARCH_LIST"])
"""
    assert said(program, cuda).split() == ["True", "12.0f", "12.0f"]


def test_without_nvml_nobody_can_tell() -> None:
    program = "from drivers.vllm_architecture import architecture\nprint(repr(architecture()))"
    assert said(program) == "''"


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
    assert said(program, path=tmp_path).split() == [
        "vllm.entrypoints.generate.api_router",
        "vllm.entrypoints.openai.models.api_router",
    ]


@pytest.mark.parametrize(
    ("body", "times"),
    [("global times; times += 1", 1), ("raise RuntimeError", 0), (None, 0)],
    ids=["it does", "it fails", "a version without"],
)
def test_a_workers_kernels_are_overridden_once(
    tmp_path: Path, body: str | None, times: int
) -> None:
    """By the host. A worker asks in vain, unless the host could not."""
    hook = f"    @classmethod\n    def register_triton_kernel_overrides(cls): {body}\n"
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").touch()
    (tmp_path / "vllm/platforms.py").write_text(
        f"times = 0\nclass Cpu:\n    name = 'cpu'\n{hook if body else ''}current_platform = Cpu()\n"
    )
    program = """
from vllm import platforms
from drivers.vllm_imports import override_kernels
override_kernels()
failed = False
try:
    platforms.current_platform.register_triton_kernel_overrides()
except Exception:
    failed = True
print(platforms.times, failed)
"""
    assert said(program, path=tmp_path) == f"{times} {times == 0}"
