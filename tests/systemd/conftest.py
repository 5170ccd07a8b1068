"""A booted machine with the product in it. Needs root, systemd-nspawn and debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.systemd.box import Box
from tests.systemd.machine import UNIT, Machine
from tests.systemd.product import CONFIG, config, product, write

HERE = Path(__file__).parent
TOOLS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap"}

MakeMachine = Callable[..., Machine]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("systemd")
            # The first of them may have to build the trees.
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def trees() -> Iterator[tuple[Path, ...]]:
    """The product, installed on a Debian: what a box is made of."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        lacking("root that may mount")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            lacking(f"{tool}: apt-get install {package}")
    with product() as made:
        yield made


def lacking(what: str) -> NoReturn:
    """Skip aloud. `./install.sh test` cannot bring this, so it is required only if all is."""
    if os.environ.get("WATTNAP_TEST_REQUIRE") == "all":
        pytest.fail(f'needs {what}; WATTNAP_TEST_REQUIRE is "all"')
    pytest.skip(f"needs {what}")


@pytest.fixture
def make_machine(trees: tuple[Path, ...]) -> Iterator[MakeMachine]:
    with ExitStack() as stack:
        yield lambda *switches, **more: stack.enter_context(machine(trees, *switches, **more))


@pytest.fixture(scope="module")
def shared_machine(trees: tuple[Path, ...]) -> Iterator[Machine]:
    """For tests that change nothing for the others."""
    with machine(trees) as shared:
        yield shared


@contextmanager
def machine(
    trees: tuple[Path, ...],
    *switches: str,
    drop_in: str = "",
    files: Mapping[str, str] | None = None,
    binds: Mapping[Path, str] | None = None,
    unified: bool = False,
) -> Iterator[Machine]:
    """A booted one.

    `switches`: of tests/fakes/vllm_server.py. `drop_in`: lines for the unit's [Service].
    `files`: path -> text, there before it boots.
    """
    box = Box(trees, binds=binds, unified=unified)
    own = {CONFIG: config(*switches)}
    if drop_in:
        own[f"/etc/systemd/system/{UNIT}.d/test.conf"] = f"[Service]\n{drop_in}\n"
    for path, text in {**own, **(files or {})}.items():
        write(box.upper, path, text)
    with box:
        yield Machine(box)
        # Shown if a test fails.
        sys.stdout.write(box.enter("journalctl", "--boot", "--lines=100", "--no-pager").stdout)
