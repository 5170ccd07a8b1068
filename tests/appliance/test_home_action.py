"""What the demo makes of the model's answers."""

from __future__ import annotations

import json

import pytest

from appliance.home_action import MODEL, describe

SAID = [
    (["set", "light", "bedroom", 30], "set the light in the bedroom to 30 %"),
    (["query", "door", "hallway", None], "look up the door in the hallway"),
    (["set", "timer", "none", 5400], "set the timer to 5400 s"),
    (["set", "scene", "none", "movie"], "set the scene to movie"),
    (["turn_off", "light", "all", None], "turn off the light, everywhere"),
    (["open", "garage", "garage", None], "open the garage"),
    (["set", "heating", "living_room", 21.5], "set the heating in the living room to 21.5 °C"),
    (["none", "none", "none", None], "nothing: that was no command for a home"),
]


@pytest.mark.parametrize(("fields", "words"), SAID, ids=[words for _, words in SAID])
def test_actions_in_words(fields: list[object], words: str) -> None:
    """As a person would say what happens."""
    keys = ("action", "device", "area", "value")
    assert describe(json.dumps(dict(zip(keys, fields, strict=True)))) == words


@pytest.mark.parametrize("text", ["", "hello", '{"action":"sing"}', "[]", '{"action":"set"'])
def test_anything_else_is_no_action(text: str) -> None:
    """Another model's words are shown as they are."""
    assert describe(text) is None


def test_the_model_is_in_the_box() -> None:
    """With everything that an engine loads, and small."""
    names = {file.name for file in MODEL.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= names
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 8_000_000
