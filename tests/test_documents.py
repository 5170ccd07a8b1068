"""Documents that are generated or that quote the code: fresh, or the build fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import Grouped
from appliance.doors.mqtt_topics import Topics, matches
from appliance.home_action import describe
from appliance.setup.engine_lock import read_lock
from tools import draw_lifecycle

ROOT = Path(__file__).parent.parent


def test_the_state_diagram_is_what_the_code_does() -> None:
    """`python tools/draw_lifecycle.py --write` has been run."""
    text = draw_lifecycle.DOCUMENT.read_text()

    assert text == draw_lifecycle.document(text)


def test_links_inside_the_documents_lead_somewhere() -> None:
    """Every relative link, in README, SECURITY and docs/, names a file that is there."""
    documents = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    for document in documents:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_modules_named_in_the_architecture_exist() -> None:
    """A newcomer who follows it finds each file."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`((?:appliance|drivers|policies|tests|tools)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_home_assistant_is_told_of_topics_that_there_are() -> None:
    """It reads what the daemon publishes, and publishes what the daemon reads."""
    topics = Topics("wattnap/home")
    told = {topics.state, topics.energy, topics.response("+"), topics.availability}
    message: dict[str, Any] = json.loads((ROOT / "docs" / "home-assistant.json").read_text())
    parts = list(message["components"].values())

    assert message["availability_topic"] in told
    for part in parts:
        topic = part.get("state_topic") or part["command_topic"]
        assert topic in told or any(matches(known, topic) for known in topics.inputs)
    assert len({part["unique_id"] for part in parts}) == len(parts)


def test_the_readme_names_every_command() -> None:
    """Whoever looks for what it can do finds it there."""
    text = (ROOT / "README.md").read_text()
    missing = [
        name for _, names in Grouped.sections for name in names if f"`wattnap {name}" not in text
    ]

    assert missing == []


@pytest.mark.parametrize("name", ["mqtt.md", "socket.md"])
def test_the_first_prompt_is_one_for_the_model_in_the_box(name: str) -> None:
    """It turns home commands into actions: the answer shown is one, and means the prompt."""
    text = (ROOT / "docs" / name).read_text()
    (answer, *_) = re.findall(r'"text":("(?:[^"\\]|\\.)*")', text)

    assert "turn on the light in the kitchen" in text.partition('"text"')[0]
    assert describe(json.loads(answer)) == "turn on the light in the kitchen"


@pytest.mark.parametrize("name", ["README.md", "install.sh"])
def test_the_disk_that_is_told_is_the_one_that_is_asked_for(name: str) -> None:
    """Of the engine for CPUs."""
    (cpu,) = [engine for engine in read_lock() if engine.name == "cpu-x86_64"]

    assert f"{cpu.disk_gib} GB of" in " ".join((ROOT / name).read_text().split())


def test_pictures_in_the_readme_are_small() -> None:
    """Whoever reads it need not wait for them."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())

    assert pictures
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 150_000
