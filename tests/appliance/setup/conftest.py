"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Mqtt, Tariff
from appliance.setup import doctor
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Report
from appliance.setup.doctor import examine, gather, judge
from appliance.setup.surroundings import Around
from drivers.disk import fsync_s
from tests.appliance.setup.examined import AWAKE, Examine, Finder, config_in
from tests.fakes.nvml import Nvml
from tests.trees import (
    BASE,
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


@pytest.fixture
def seen(tmp_path: Path) -> Finder:
    """What is said of one thing, on a machine with nothing else to say."""
    config = Config(state_dir=str(tmp_path), mqtt=Mqtt(enabled=False), tariff=Tariff(per_kwh=0.3))
    root = write(tmp_path / "root", BASE)
    facts = gather(config, root=root, account=NOBODY)

    def seen(what: str, change: Callable[[Facts], Facts] | None = None, **around: Any) -> Any:
        now = replace(facts, around=replace(Around(), **around))
        report = judge(change(now) if change else now)
        found = [finding for finding in report.findings if finding.what == what]
        assert len(found) < 2
        return found[0] if found else None

    return seen
