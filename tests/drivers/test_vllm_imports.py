"""How a warm host tells whether it has begun to use the GPU: libraries that answer as NVIDIA's.

What they answer was seen on a GPU (docs/measurements/2026-11-21-ladder-h200.md). In a process of
its own, since a library stays.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = {
    "libcuda.so.1": """
        static int begun;
        int cuInit(unsigned flags) { begun = 1; return 0; }
        int cuDeviceGetCount(int *count) { *count = 1; return begun ? 0 : 3; }
    """,
    "libnvidia-ml.so.1": """
        int users;
        int nvmlInit_v2(void) { users++; return 0; }
        int nvmlShutdown(void) { return users ? (users--, 0) : 1; }
    """,
}


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A folder with both."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler here")
    for name, text in LIBRARIES.items():
        source = (tmp_path / name).with_suffix(".c")
        source.write_text(text)
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(tmp_path / name)]
        subprocess.run([*command, str(source)], check=True)
    return tmp_path


def said(program: str, libraries: Path) -> str:
    """What a Python prints that has those on its path."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_cuda_says_itself_whether_it_was_begun(libraries: Path) -> None:
    """Not there, there, initialized; and asking alone does not load it."""
    program = """
import ctypes
from drivers.vllm_imports import on_gpu
told = [on_gpu(), "libcuda" in open("/proc/self/maps").read()]
cuda = ctypes.CDLL("libcuda.so.1")
told.append(on_gpu())
cuda.cuInit(0)
told.append(on_gpu())
print(*told)
"""
    assert said(program, libraries) == "False False False True"


def test_nvml_is_let_go_by_whoever_forgot_to(libraries: Path) -> None:
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
    assert said(program, libraries) == "0"
