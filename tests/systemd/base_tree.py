"""The tree that boxes are made of: a small Debian with an init, made once and kept.

It is only ever the lowest layer of an overlay, so that nothing a box does changes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv,dbus,libpam-systemd,procps",
    "python3,python3-venv",
    "mosquitto,mosquitto-clients",
    "libnuma1",  # for vLLM on a CPU
)
# They may begin in the middle of a test.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer")

CACHE = Path(os.environ.get("WATTNAP_TEST_BOX_BASE") or "/var/cache/wattnap-boxes")


def base(packages: Sequence[str] = PACKAGES) -> Path:
    """The tree, from the cache, or made in a minute or two. Needs root and a Debian mirror."""
    recipe = "\n".join((SUITE, *packages, *MASKED))
    tree = CACHE / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with made_once(tree) as fresh:
        if fresh is not None:
            _debootstrap(fresh, packages)
            # Without it "localhost" has no address where there is no network.
            (fresh / "etc/hosts").write_text("127.0.0.1 localhost\n")
            for unit in MASKED:
                (fresh / "etc/systemd/system" / unit).symlink_to("/dev/null")
    return tree


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Yield where to make `folder`, or None if it is there. It appears whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            yield None
            return
        fresh = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        yield fresh
        fresh.rename(folder)


def _debootstrap(into: Path, chosen: Sequence[str]) -> None:
    # Namespaces of its own: what it mounts goes with it, also when we are killed.
    alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    alone += ["--kill-child=KILL", "--mount-proc"]
    packages = f"--include={','.join(chosen)}"
    done = subprocess.run(
        [*alone, "debootstrap", "--variant=minbase", packages, SUITE, into],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"debootstrap failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
