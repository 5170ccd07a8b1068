"""Which depths an engine can rest at on this machine, and for each that it cannot, why. Pure."""

from __future__ import annotations

from appliance.power.ladder import NEEDS
from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import RungFinding
from policies.ladder import Depth


def rungs(facts: Facts) -> tuple[RungFinding, ...]:
    """All of them, awake first. Without an engine there is none but off."""
    return tuple(RungFinding(depth.name.lower(), _why_not(facts, depth)) for depth in Depth)


def _why_not(facts: Facts, depth: Depth) -> str:
    if depth is Depth.OFF:
        return ""
    if facts.lacks is None:
        return "there is no engine: see vLLM below"
    reasons = [
        facts.settings.without.get(rest) or facts.lacks.get(rest, "")
        for rest in NEEDS.get(depth, ())
    ]
    # The last: without sleep there is no parking, but why there is no parking says more.
    return next(filter(None, reversed(reasons)), "")
