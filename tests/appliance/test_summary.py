"""What is said of an answer's joules when it comes."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.commands.answers import summary
from appliance.demo.narrator import Narrator

GUESS: dict[str, Any] = {"marginal_j": 3.31, "wake_j": 12.7, "source": "estimate", "final": False}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "about 3.3 J + 12.7 J of the wake (estimate)"),
        ({"wake_j": None}, "about 3.3 J (estimate)"),
        ({"final": True}, "3.3 J + 12.7 J of the wake (estimate)"),
        ({"marginal_j": None}, ""),
    ],
)
def test_a_first_guess_is_called_one(change: dict[str, Any], said: str) -> None:
    """What is not known is not mentioned."""
    assert summary({"energy": GUESS | change}) == said


def test_the_demo_says_that_joules_come_later(capsys: pytest.CaptureFixture[str]) -> None:
    """Also of the first answer, of which nothing can be guessed."""
    narrator = Narrator(to_stderr=False)
    narrator.took({"usage": {"completion_tokens": 8}, "energy": GUESS | {"marginal_j": None}})
    narrator.took({"usage": {"completion_tokens": 9}, "energy": GUESS})
    first, second = capsys.readouterr().out.splitlines()

    assert first.strip() == "8 tokens · joules: not known yet"
    assert second.strip() == "9 tokens · about 3.3 J + 12.7 J of the wake (estimate)"
