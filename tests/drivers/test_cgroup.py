"""Where our control group is, and whether it is ours to divide. In a real unit: tests/systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers import cgroup

UNIT = "system.slice/wattnap.service"
HYBRID = """\
30 23 0:26 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
31 23 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
32 31 0:27 /system.slice/wattnap.service /sys/fs/cgroup/unified/x rw - cgroup2 cgroup2 rw
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
ODD = "29 23 0:25 / /mnt/caf\udce9\r rw - ext4 /dev/vdb rw\n"
PART = "30 23 0:26 /system.slice /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "found"),
    [
        (f"4:memory:/else\n0::/{UNIT}\n", HYBRID, f"sys/fs/cgroup/unified/{UNIT}"),
        (f"0::/{UNIT}\n", UNIFIED, f"sys/fs/cgroup/{UNIT}"),
        (f"0::/{UNIT}\n", PART, "sys/fs/cgroup/wattnap.service"),
        (f"0::/{UNIT}\n", ODD + UNIFIED, f"sys/fs/cgroup/{UNIT}"),
        ("0::/\n", PART, None),
        (f"4:memory:/{UNIT}\n", UNIFIED, None),
        (f"0::/{UNIT}\n", "30 23 0:26 / / rw - ext4 /dev/vda rw\n", None),
    ],
    ids=[
        *("hybrid", "unified", "part of the tree", "odd names"),
        *("outside the part", "version 1", "not mounted"),
    ],
)
def test_find_own(tmp_path: Path, groups: str, mounts: str, found: str | None) -> None:
    """Our group is where the one hierarchy of version 2 is mounted."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    (tmp_path / "proc/self/mountinfo").write_text(mounts, errors="surrogateescape")
    if found:
        (tmp_path / found).mkdir(parents=True)

    assert cgroup.find_own(tmp_path) == (tmp_path / found if found else None)


def test_not_given(tmp_path: Path) -> None:
    """Where the group above is ours too, nobody has given us anything: nothing is made."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"0::/{UNIT}\n")
    (tmp_path / "proc/self/mountinfo").write_text(UNIFIED)
    own = tmp_path / "sys/fs/cgroup" / UNIT
    own.mkdir(parents=True)

    assert cgroup.make("engine/main", tmp_path) is None
    assert list(own.iterdir()) == []
