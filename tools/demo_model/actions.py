"""A home command as a value: four closed fields and their one spelling.

Nothing here knows how a command is phrased.
"""

import json
from dataclasses import dataclass
from typing import Any

ACTIONS = ("turn_on", "turn_off", "set", "open", "close", "lock", "unlock", "query", "none")
DEVICES = (
    *("light", "heating", "blinds", "door", "garage", "fan", "tv", "socket", "timer", "scene"),
    "none",
)
ROOMS = ("kitchen", "living_room", "bedroom", "bathroom", "office", "hallway", "garage", "garden")
AREAS = (*ROOMS, "all", "none")
SCENES = ("night", "movie", "away", "morning")

Value = int | float | str | None
"""Percent for lights, blinds and fans, °C for heating, seconds for timers; a scene; or nothing."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a home would do.

    value   see `Value`; a whole number is an int, never 21.0
    """

    action: str
    device: str
    area: str = "none"
    value: Value = None

    def to_json(self) -> str:
        """The one line the model is trained to say: compact, keys in this order."""
        fields = {
            "action": self.action,
            "device": self.device,
            "area": self.area,
            "value": self.value,
        }
        return json.dumps(fields, separators=(",", ":"))


NOTHING = Action("none", "none")
"""The answer to everything that is not a home command."""


def parse_action(words: str) -> Action:
    """Read `action device area value` as the hand-written sets spell it ("-" is null).

    Raises ValueError if a word is outside its closed set.
    """
    if words == "none":
        return NOTHING
    action, device, area, value = words.split()
    for word, allowed in ((action, ACTIONS), (device, DEVICES), (area, AREAS)):
        if word not in allowed:
            raise ValueError(f"{words!r}: {word!r} is not one of {', '.join(allowed)}")
    return Action(action, device, area, _value(value))


def _value(word: str) -> Value:
    if word == "-":
        return None
    if word in SCENES:
        return word
    number = float(word)
    return int(number) if number.is_integer() else number


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of an answer, for `response_format`; key order as trained."""
    return {
        "type": "object",
        "properties": {
            "action": {"type": "string", "enum": list(ACTIONS)},
            "device": {"type": "string", "enum": list(DEVICES)},
            "area": {"type": "string", "enum": list(AREAS)},
            "value": {
                "anyOf": [
                    {"type": "number"},
                    {"type": "string", "enum": list(SCENES)},
                    {"type": "null"},
                ]
            },
        },
        "required": ["action", "device", "area", "value"],
        "additionalProperties": False,
    }
