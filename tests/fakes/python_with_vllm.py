"""A Python that has a vLLM of any version, as far as its packages' metadata say."""

from __future__ import annotations

import sys
from pathlib import Path


def python_with(folder: Path, version: str, distribution: str = "vllm") -> Path:
    """A program below `folder`: this Python, with such a package beside its own."""
    packages = folder / "site-packages"
    info = packages / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python
