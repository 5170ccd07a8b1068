"""Processes on a GPU that is not there: its libraries, built once, and what they are told to do."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivers.checkpoint import STATES
from drivers.tenants import Look

LIBRARIES = {"libcuda.c": "libcuda.so.1", "libnvml.c": "libnvidia-ml.so.1"}


@functools.cache
def library() -> Path:
    """The folder of what was built. Raises FileNotFoundError without a compiler."""
    folder = Path(tempfile.mkdtemp(prefix="wn-libcuda-"))
    folder.chmod(0o755)
    for source, name in LIBRARIES.items():
        command = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        file = Path(__file__).with_name(source)
        subprocess.run([*command, "-o", str(folder / name), str(file)], check=True)
    return folder


class FakeCuda:
    """The driver of one test. `plan` makes a step misbehave; see libcuda.c."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o777)
        self.env = os.environ | {"FAKE_CUDA": str(folder), "LD_LIBRARY_PATH": str(library())}

    def plan(self, how: str, step: str, code: int = 1) -> None:
        (self.folder / f"{how}.{step}").write_text(str(code))

    def heal(self) -> None:
        for pattern in ("fail.*", "hang.*", "kill.*"):
            for file in self.folder.glob(pattern):
                file.unlink()

    def state(self, pid: int) -> str:
        file = self.folder / f"state.{pid}"
        return STATES[int(file.read_text())] if file.exists() else "running"

    def put(self, pid: int, state: str) -> None:
        (self.folder / f"state.{pid}").write_text(str(STATES.index(state)))

    @property
    def calls(self) -> list[str]:
        """Steps that were tried, without looks at the state."""
        return [word for word in self._words if word not in {"init", "state"}]

    def count(self, step: str) -> int:
        """Times that it was tried."""
        return self._words.count(step)

    @property
    def _words(self) -> list[str]:
        file = self.folder / "calls"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


class FakeTenants:
    """Shows what `pids` are on the GPU, as the fake driver has it: 1 GB each."""

    def __init__(self, cuda: FakeCuda, *pids: int) -> None:
        self.cuda = cuda
        self.pids = list(pids)
        self.stuck = False
        """The GPU shows everybody for ever."""

    def look(self) -> Look:
        here = [p for p in self.pids if self.stuck or self.cuda.state(p) != "checkpointed"]
        return Look(dict.fromkeys(here, 10**9), len(here) * 10**9)


@contextmanager
def sleeping(count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that do nothing."""
    made = [subprocess.Popen(["sleep", "60"]) for _ in range(count)]
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.wait()


def compiler() -> str | None:
    return shutil.which("gcc")
