"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.setup import doctor
from appliance.setup.checks.findings import Report
from appliance.setup.doctor import examine
from drivers.disk import fsync_s
from tests.appliance.setup.examined import AWAKE, Examine, config_in
from tests.fakes.nvml import Nvml
from tests.trees import (
    NOBODY,
    jetson,
    write,
)


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Examine a machine made of files, for a user who owns none of them; its disk is quick."""
    monkeypatch.setattr(
        doctor, "fsync_s", lambda folder, **how: [0.001 for _ in fsync_s(folder, **how)]
    )

    def examined(
        files: dict[str, str] | str,
        config: Config | None = None,
        change: Callable[[Path], None] = lambda _: None,
        nvml: Nvml | None = None,
        **options: Any,
    ) -> Report:
        root = tmp_path / "root"
        root = jetson(files, root) if isinstance(files, str) else write(root, files)
        change(root)
        return examine(
            config or config_in(tmp_path),
            root=root,
            nvml=nvml or Nvml(**AWAKE),
            account=NOBODY,
            **options,
        )

    return examined
