"""A broker that does not write to disk: for counting and timing messages, not for losing them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto


@pytest.fixture
def hasty_broker(mosquitto: str, tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(mosquitto, tmp_path / "hasty", "autosave_on_changes false\n") as running:
        yield running
