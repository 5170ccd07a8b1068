"""Storage faults need a file system to break, and a whole installation on it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from bench.rig import Rig, rig
from tests.appliance.storage.disks import SmallDisk, mounted

MakeDisk = Callable[..., SmallDisk]
MakeRig = Callable[..., Rig]


def lacking(what: str) -> NoReturn:
    """Skip aloud. `./install.sh test` cannot bring this, so it is required only if all is."""
    if os.environ.get("WATTNAP_TEST_REQUIRE") == "all":
        pytest.fail(f'needs {what}; WATTNAP_TEST_REQUIRE is "all"')
    pytest.skip(f"needs {what}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Like tmp_path, but short enough for the engine's sockets."""
    with tempfile.TemporaryDirectory(prefix="wattnap") as made:
        yield Path(made)


@pytest.fixture
def may_mount() -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        lacking("root that may mount")


@pytest.fixture
def make_disk(may_mount: None, folder: Path) -> Iterator[MakeDisk]:
    """Mounts a file system of `size_kib` at a path below `folder`."""
    with ExitStack() as stack:
        yield lambda path, size_kib: stack.enter_context(mounted(folder / path, size_kib=size_kib))


@pytest.fixture
def make_rig(mosquitto: str, folder: Path) -> Iterator[MakeRig]:
    """A broker and a daemon with a pretended engine process, in a folder of their own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(rig(folder, **settings))
