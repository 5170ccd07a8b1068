from __future__ import annotations

from pathlib import Path

import pytest

from drivers.disk import fsync_s


def test_it_counts_and_cleans_up(tmp_path: Path) -> None:
    seconds = fsync_s(tmp_path, count=5)

    assert len(seconds) == 5
    assert seconds == sorted(seconds)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_asked_once(tmp_path: Path) -> None:
    """However short the time is, there is an answer."""
    assert len(fsync_s(tmp_path, limit_s=0)) == 1


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        fsync_s(tmp_path / "none")
