"""A Python that has a vLLM of any version, as far as its packages' metadata say, or further."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

# What a warm host looks for; it serves as the stand-in does.
MODULES = {
    "__init__.py": "__version__ = {version!r}\n",
    "entrypoints/openai/api_server.py": "",
    "entrypoints/cli/main.py": """
import sys, vllm
sys.path.insert(0, {here!r})
sys.argv.remove("serve")
print("this is vLLM", vllm.__version__, flush=True)
from tests.fakes.vllm_server import main
main()
""",
    "v1/engine/core.py": "",
    "v1/engine/async_llm.py": "",
}


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


def python_that_serves(folder: Path, version: str) -> Path:
    """One with a "vllm" that serves. Again, with another version: an upgrade in place."""
    packages = folder / "site-packages"
    shutil.rmtree(packages, ignore_errors=True)
    python = python_with(folder, version)
    for name, text in MODULES.items():
        file = packages / "vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(version=version, here=str(Path(__file__).parents[2])))
    return python
