"""Reads small files of /proc, /sys, /etc and /var, below a root that tests can move.

What cannot be read is absent, never an error: "" or None. Opens nothing under /dev,
because that can wake what it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 4 << 20
"""No file that a driver reads is as large; the largest is modules.dep, with 1 MB."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one machine, or of a copy of them. Paths are relative: "proc/meminfo"."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Its text without surrounding space and NULs (the device tree's end in one), or ""."""
        try:
            with (self.root / path).open("rb") as file:
                raw = file.read(LIMIT_BYTES)
        except OSError:
            return ""
        return raw.decode(errors="replace").strip("\0 \t\n")

    def number(self, path: str) -> int | None:
        """The whole number that the file holds, in the file's own unit."""
        text = self.text(path)
        return int(text) if text.isascii() and text.isdigit() else None

    def names(self, folder: str) -> tuple[str, ...]:
        """What is in `folder`, sorted; nothing if there is none."""
        try:
            return tuple(sorted(entry.name for entry in (self.root / folder).iterdir()))
        except OSError:
            return ()

    def has(self, path: str) -> bool:
        """Whether there is such a file, folder, device or socket."""
        try:
            return (self.root / path).exists()
        except OSError:  # PermissionError, on the way to it
            return False
