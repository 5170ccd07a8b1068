"""Fixtures that are real: a broker, a clock, an engine's own Python."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers import Mosquitto

# Machines that run other things beside us are slow now and then; that is no failure.
settings.register_profile("wattnap", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wattnap")


def required(name: str, value: str | None) -> str:
    """A real part. Skips aloud without it; in CI that is a failure."""
    if value:
        return value
    if os.environ.get("WATTNAP_TEST_REQUIRE"):
        pytest.fail(f"{name} is missing, and WATTNAP_TEST_REQUIRE is set")
    pytest.skip(f"{name} is missing; `./install.sh test` brings it")


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """Path of the broker's program."""
    places = "/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin"
    given = os.environ.get("WATTNAP_TEST_MOSQUITTO")
    return required("mosquitto", given or shutil.which("mosquitto", path=places))


@pytest.fixture(scope="session")
def engine_python() -> str:
    """Interpreter of a virtual environment that has vLLM."""
    return required("a vLLM", os.environ.get("WATTNAP_TEST_ENGINE_PYTHON"))


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of the test's own, with the settings that we recommend."""
    with Mosquitto(mosquitto, tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def hasty_broker(mosquitto: str, tmp_path: Path) -> Iterator[Mosquitto]:
    """One that does not write to disk: for counting and timing messages, not for losing them."""
    with Mosquitto(mosquitto, tmp_path / "hasty", "autosave_on_changes false\n") as running:
        yield running
