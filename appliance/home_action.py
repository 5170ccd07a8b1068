"""What the model in the box says: an action that a home would take, in one line of JSON.

See demo_model/MODEL_CARD.md for what it understands. Only the demo reads actions;
in a real home that is the automation's work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

MODEL = Path(__file__).parent / "demo_model"
"""The model in the box: a directory that vLLM serves."""

UNITS = {"light": " %", "blinds": " %", "heating": " °C", "timer": " s"}
VERBS = {
    "turn_on": "turn on",
    "turn_off": "turn off",
    "query": "look up",
}


class HomeAction(Struct, frozen=True, forbid_unknown_fields=True):
    """`value`: percent for lights and blinds, °C for heating, seconds for timers, or a scene."""

    action: Literal[
        "turn_on", "turn_off", "set", "open", "close", "lock", "unlock", "query", "none"
    ]
    device: Literal[
        "light", "heating", "blinds", "door", "garage", "fan", "tv", "socket", "timer", "scene",
        "none",
    ]  # fmt: skip
    area: str
    value: float | str | None


def describe(text: str) -> str | None:
    """What a home would do about it, in words; None if it is no action."""
    try:
        action = msgspec.json.decode(text, type=HomeAction)
    except msgspec.DecodeError:
        return None
    if action.action == "none":
        return "nothing: that was no command for a home"
    told = f"{VERBS.get(action.action, action.action)} the {action.device}"
    if action.area == "all":
        told += ", everywhere"
    elif action.area not in {"none", action.device}:
        told += f" in the {action.area.replace('_', ' ')}"
    if action.value is not None:
        value = f"{action.value:g}" if isinstance(action.value, float) else action.value
        told += f" to {value}{UNITS.get(action.device, '')}"
    return told
