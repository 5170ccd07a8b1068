"""The host itself: what becomes of a command that it forks, and on which Pythons it runs.

Programs stand in for servers; a plain start of the same command is the measure.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from mypy import api as mypy

from drivers import checkpoint, engine_side, vllm_host
from drivers.process import Child
from drivers.protocols import EngineFacts
from drivers.warm_host import Start, WarmHost
from tests.drivers.conftest import children

# What the engine's own Python runs of ours, and what those import.
THERE = [
    Path(vllm_host.__file__),
    *(
        Path(vllm_host.__file__).with_name(f"{name}.py")
        for name in ("vllm_imports", "vllm_architecture", "guard", "cgroup", "procfs")
    ),
    Path(checkpoint.__file__),
    *Path(engine_side.__file__).parent.rglob("*.py"),
]

LOOK = """
import ctypes, json, os, resource, signal, sys, tempfile
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path,
    "name": __name__,
    "file": __file__,
    "main": sys.modules["__main__"].__dict__ is globals(),
    "folder": os.getcwd(),
    "env": {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")},
    "as C sees it": [libc.getenv(b"GREETING").decode(), str(libc.getenv(b"PWNED"))],
    "temporary": tempfile.gettempdir(),
    "umask": os.umask(0o77),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "nice": os.nice(0),
    "ignored": [n for n in range(1, 32) if signal.getsignal(n) == signal.SIG_IGN],
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "input": sys.stdin.read(),
}))
"""


@pytest.fixture
def programs(place: Path) -> Path:
    """A folder with a module and one with a script that say what they are."""
    for name in ("modules/look.py", "scripts/look.py"):
        (place / name).parent.mkdir()
        (place / name).write_text(LOOK)
    # Where temporary files go is remembered once somebody has asked.
    (place / "modules/sitecustomize.py").write_text("import tempfile; tempfile.gettempdir()")
    return place


def older_python() -> Path | None:
    """A Python 3.10, JetPack 6's."""
    installed = Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10")
    for name in ("python3.10", *map(str, installed)):
        found = shutil.which(name)
        # A version manager's stand-in may be found that has no such version.
        if found and not subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL):
            return Path(found)
    return None


@pytest.fixture(params=["this", "3.10"])
def python(request: pytest.FixtureRequest) -> Path:
    if request.param == "this":
        return Path(sys.executable)
    if (found := older_python()) is None:
        pytest.skip("no python3.10 here; syntax and types are checked for it all the same")
    return found


class Runs:
    """A host that runs commands one by one, to their ends."""

    def __init__(self, python: Path, place: Path, env: dict[str, str]) -> None:
        self.python, self.place, self.env = python, place, env
        self.host = WarmHost("test", python=python, device="none", model="")

    async def forked(self, *command: str, env: dict[str, str]) -> tuple[int, Sequence[str]]:
        return await self._run(command, env, plain=False)

    async def plain(self, *command: str, env: dict[str, str]) -> tuple[int, Sequence[str]]:
        return await self._run(command, env, plain=True)

    async def _run(
        self, command: Sequence[str], env: dict[str, str], *, plain: bool
    ) -> tuple[int, Sequence[str]]:
        """Exit status and output."""
        child = Child("test")

        async def launch(start: Start) -> EngineFacts:
            directory = self.place / "life"
            directory.mkdir()
            await start(
                child,
                [str(self.python), *command],
                env=env,
                directory=directory,
                grace_s=1,
                group="",
            )
            await child.wait()
            return EngineFacts(kind="vllm", identity="", version="", pids=())

        if plain:
            await launch(Child.start)
        else:
            await self.host.start(launch, install="x", env=self.env, within_s=20)
            assert self.host.lacks == ""
        assert child.status is not None
        return child.status, list(child.tail)


@contextlib.asynccontextmanager
async def runs(python: Path, place: Path, env: dict[str, str]) -> AsyncIterator[Runs]:
    running = Runs(python, place, env)
    try:
        yield running
    finally:
        await running.host.end()
        assert children() == []


@pytest.mark.parametrize("form", ["script", "module"])
async def test_what_is_forked_is_as_if_it_had_been_started(
    place: Path, programs: Path, python: Path, form: str
) -> None:
    """Arguments, paths, folder, limits, and the environment: the order's, not the host's."""
    # With a locale that Python likes; in C it would put another into the environment.
    base = {"PYTHONPATH": str(programs / "modules"), "LC_ALL": "C.UTF-8", "HOME": str(place)}
    host_env = base | {"GREETING": "good morning", "PWNED": "by the host"}
    env = base | {"GREETING": "good evening", "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    what = [str(programs / "scripts/look.py")] if form == "script" else ["-m", "look"]
    async with runs(python, place, host_env) as running:
        forked = await running.forked(*what, "--flag", "value", env=env)
        plain = await running.plain(*what, "--flag", "value", env=env)

    assert plain[0] == 0
    assert forked[0] == 0, forked[1]
    assert json.loads(forked[1][-1]) == json.loads(plain[1][-1])
    assert json.loads(forked[1][-1])["as C sees it"] == ["good evening", "None"]


ENDS = {
    "import sys; sys.exit(3)": 3,
    "import sys; sys.exit()": 0,
    "import sys; sys.exit('too little memory')": 1,
    "raise ValueError('too little memory')": 1,
    "import atexit; atexit.register(print, 'too little memory')": 0,
    "import os; os.kill(os.getpid(), 11)": -11,
    "import multiprocessing as m; m.Process(target=print, args=('too little memory',)).start()": 0,
}


async def test_ends_as_python_ends(place: Path, python: Path) -> None:
    """Exit statuses, last words, functions for the end, children that are waited for."""
    env = {"PATH": os.environ["PATH"]}
    async with runs(python, place, env) as running:
        for number, (program, status) in enumerate(ENDS.items()):
            script = place / f"{number}.py"
            script.write_text(program)
            forked = await running.forked(str(script), env=env)
            plain = await running.plain(str(script), env=env)

            assert forked[0] == plain[0] == status, program
            assert forked[1][-1:] == plain[1][-1:], program


@pytest.mark.parametrize("file", THERE, ids=lambda file: file.stem)
def test_is_python_310(file: Path) -> None:
    """JetPack 6 has no newer one: no syntax that came later."""
    ast.parse(file.read_text(), feature_version=(3, 10))


def test_has_what_it_uses_in_python_310() -> None:
    """And nothing of the standard library that came later: mypy knows what came when."""
    here = Path(vllm_host.__file__).parents[1]
    config = str(here / "pyproject.toml")
    arguments = ["--config-file", config, "--python-version", "3.10", "--follow-imports", "silent"]
    said, _, status = mypy.run([*arguments, "--cache-dir", os.devnull, *map(str, THERE)])

    assert status == 0, said


def test_knows_all_that_the_host_imports() -> None:
    """The files above are all that run there: none imports another module of ours."""
    known = {file.stem for file in THERE}
    for file in THERE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drivers"):
                names = {a.name for a in node.names} if node.module == "drivers" else set()
                assert (names or {(node.module or "").split(".")[-1]}) <= known, file
