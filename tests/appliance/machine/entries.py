"""Requests as the roster has them."""

from __future__ import annotations

from appliance.machine.roster import Entry


def entry(
    id: str, *, klass: str = "interactive", at_s: float = 0.0, deadline_s: float | None = None
) -> Entry:
    """One that was accepted at `at_s`, and has so long from then."""
    return Entry(
        key=("mqtt", "", id),
        form="text",
        path="",
        stream=False,
        klass=klass,
        priority=0,
        hops=0,
        accepted_at="",
        accepted_s=at_s,
        deadline_s=deadline_s,
        deadline_at_s=None if deadline_s is None else at_s + deadline_s,
    )
