"""How far a figure is to be trusted, in a word and in a sentence (docs/energy.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.commands import terminal

MEANING = {
    "estimate": "estimate: computed; no meter has measured it",
    "low": "low: short, or more than 5 % of the time was not measured, or more than 10 % of the"
    " joules not read",
}
NOT_MEASURED = "not measured"


def explain(words: Iterable[str | None], notes: Sequence[str] = ()) -> None:
    """On stderr: the notes, and what those of the words mean that need it."""
    found = set(words)
    for line in [*notes, *(meaning for word, meaning in MEANING.items() if word in found)]:
        terminal.tell(line, err=True)
