"""What the doors' tests have in common; MQTT's have a desk of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.desk import FakeDesk


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the socket."""
    return tmp_path / "run" / "wattnap.sock"
