"""Small real file systems: one that can be filled, one that can fail."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK_BYTES = 4096


class SmallDisk:
    """`path` is the root of a file system of its own. `ballast` is what fills it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, but_bytes: int = 0) -> None:
        """Leave this much room, or none."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while self.free_bytes > but_bytes:
                try:
                    ballast.write(b"x" * min(CHUNK_BYTES, self.free_bytes - but_bytes))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    return

    def make_room(self, room_bytes: int | None = None) -> None:
        """Of the ballast, give back this much, or all."""
        if room_bytes is None:
            self._ballast.unlink()
        else:
            os.truncate(self._ballast, self._ballast.stat().st_size - room_bytes)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)


@contextlib.contextmanager
def mounted(path: Path, *, size_kib: int) -> Iterator[SmallDisk]:
    """A tmpfs at `path`."""
    path.mkdir(parents=True, exist_ok=True)
    options = f"size={size_kib}k,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "wattnap-test", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def losing(
    path: Path, image: Path, *, size_kib: int, kept_kib: int
) -> Iterator[Callable[[], None]]:
    """An ext4 at `path`. Once the function is called, all beyond `kept_kib` is an I/O error."""
    with image.open("wb") as file:
        file.truncate(size_kib * 1024)
    found = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=True
    )
    device = found.stdout.strip()
    try:
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", device], check=True)
        path.mkdir()
        subprocess.run(["mount", device, path], check=True)

        def lose() -> None:
            # Mounted anew, so that nothing of it is in memory.
            subprocess.run(["umount", path], check=True)
            os.truncate(image, kept_kib * 1024)
            subprocess.run(["mount", device, path], check=True)

        try:
            yield lose
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
