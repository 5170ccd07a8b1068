from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

Test = TypeVar("Test", bound=Callable[..., None])


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> Callable[[int], settings]:
    """Settings for so many batches of messages.

    The same messages each time, so that a change is judged by what it changes: a door
    that broke by chance would be blamed on whoever came by. With `--hypothesis-seed`
    they are others, and it is for whoever seeks to choose a seed, or "random".
    """
    same = request.config.getoption("--hypothesis-seed") is None

    def settle(batches: int) -> settings:
        return settings(
            max_examples=batches,
            derandomize=same,
            database=None,  # a failure is printed whole, and becomes a test of its own
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

    return settle
