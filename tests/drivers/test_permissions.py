from __future__ import annotations

import os
import pwd
from pathlib import Path

from drivers.permissions import Account, Node, find_account, forbidden, may_use, ours
from drivers.probe import probe
from tests.trees import DESKTOP, NOBODY, jetson, write


def test_device_nodes_of_a_desktop(tmp_path: Path) -> None:
    """Each that may not be both read and written."""
    root = write(tmp_path, DESKTOP)
    assert forbidden(probe(root), NOBODY, root) == ()
    (root / "dev/nvidia0").chmod(0o660)
    (root / "dev/nvidia-uvm").chmod(0o644)

    assert {node.path for node in forbidden(probe(root), NOBODY, root)} == {
        "/dev/nvidia0",
        "/dev/nvidia-uvm",
    }


def test_device_nodes_of_a_jetson(tmp_path: Path) -> None:
    """Memory and control; of the two control nodes the one that is there."""
    root = jetson("agx-orin", tmp_path)
    for name in ("nvmap", "nvhost-ctrl-gpu"):
        (root / "dev" / name).chmod(0o660)

    assert [node.path for node in forbidden(probe(root), NOBODY, root)] == [
        "/dev/nvmap",
        "/dev/nvhost-ctrl-gpu",
    ]


def test_the_group_that_may(tmp_path: Path) -> None:
    """Its members are asked for their right as members."""
    node = tmp_path / "node"
    node.touch()
    node.chmod(0o660)
    member = Account("member", NOBODY.uid, frozenset({node.stat().st_gid}))

    assert may_use(node, member)
    assert not may_use(node, NOBODY)
    node.chmod(0o606)
    assert not may_use(node, member)
    assert may_use(node, NOBODY)
    assert may_use(node, Account("root", 0, frozenset()))


def test_the_owner(tmp_path: Path) -> None:
    """Of a file that is ours, the system itself is asked."""
    node = tmp_path / "node"
    node.touch(0o600)

    assert may_use(node, ours())
    assert ours().uid == os.geteuid()


def test_accounts() -> None:
    root = find_account("root")

    assert root is not None
    assert (root.uid, pwd.getpwuid(0).pw_gid in root.gids) == (0, True)
    assert find_account("no-such-user") is None


def test_a_node_is_told_with_its_group() -> None:
    """So that a remedy can name it."""
    assert Node("/dev/nvmap", "video").group == "video"
