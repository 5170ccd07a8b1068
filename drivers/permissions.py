"""Which device nodes an engine opens here, and whether some user may.

Looks at their permissions only; nothing is opened. Access lists (acl(5)) are seen
for the process's own user, not for others.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.probe import NODES, TEGRA_MEMORY_NODE, TEGRA_NODES, Machine


@dataclass(frozen=True, slots=True)
class Account:
    """A user and the groups it is in, by number."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Node:
    """A device that an engine needs and may not open. `group`: whose members may, or ""."""

    path: str
    group: str


def ours() -> Account:
    """The user of this process."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container, often
        name = str(uid)
    return Account(name, uid, frozenset({os.getegid(), *os.getgroups()}))


def find_account(name: str) -> Account | None:
    """A user of this machine, as its next login or service start will be."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def forbidden(machine: Machine, account: Account, root: Path = Path("/")) -> tuple[Node, ...]:
    """The nodes that are there, are needed, and that `account` may not read and write."""
    return tuple(
        Node(f"/{node}", _group(root / node))
        for node in _needed(machine, root)
        if not may_use(root / node, account)
    )


def _needed(machine: Machine, root: Path) -> Iterator[str]:
    if machine.jetson is not None:
        control = [node for node in TEGRA_NODES if (root / node).exists()]
        wanted: tuple[str, ...] = (TEGRA_MEMORY_NODE, *control[:1])
    else:
        numbered = sorted((root / "dev").glob("nvidia[0-9]*"))
        wanted = (*NODES, *(str(path.relative_to(root)) for path in numbered))
    return (node for node in wanted if (root / node).exists())


def may_use(path: Path, account: Account) -> bool:
    """Whether `account` may read and write it."""
    return _may(path, account, os.R_OK | os.W_OK)


def may_read(folder: Path, account: Account) -> bool:
    """Whether `account` may come to it and list it. Raises OSError if it is not there."""
    there = folder.resolve(strict=True)
    return _may(there, account, os.R_OK | os.X_OK) and all(
        _may(above, account, os.X_OK) for above in there.parents
    )


def may_read_file(path: Path, account: Account) -> bool:
    """Whether `account` may read it, if it comes to it. Raises OSError if it is not there."""
    return _may(path, account, os.R_OK)


def _may(path: Path, account: Account, wanted: int) -> bool:
    if account.uid == os.geteuid():
        return os.access(path, wanted)
    found = path.stat()
    if account.uid == 0:
        return True
    if found.st_uid == account.uid:
        granted = found.st_mode >> 6
    elif found.st_gid in account.gids:
        granted = found.st_mode >> 3
    else:
        granted = found.st_mode
    return granted & wanted == wanted


def _group(path: Path) -> str:
    found = path.stat()
    if not found.st_mode & stat.S_IWGRP or found.st_gid == 0:
        return ""
    try:
        return grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return ""
