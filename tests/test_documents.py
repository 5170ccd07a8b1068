"""Documents that are generated or that quote the code: fresh, or the build fails."""

from __future__ import annotations

import re
from pathlib import Path

from tools import draw_lifecycle

ROOT = Path(__file__).parent.parent


def test_the_state_diagram_is_what_the_code_does() -> None:
    """`python tools/draw_lifecycle.py --write` has been run."""
    text = draw_lifecycle.DOCUMENT.read_text()

    assert text == draw_lifecycle.document(text)


def test_links_inside_the_documents_lead_somewhere() -> None:
    """Every relative link in README and docs/ names a file that is there."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for document in documents:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_modules_named_in_the_architecture_exist() -> None:
    """A newcomer who follows it finds each file."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:appliance|drivers|policies|tests|tools)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
