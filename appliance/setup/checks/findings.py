"""What a check-up ends with: findings, each with its remedy, and which rungs there are.

Pure values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# Of several troubles, the one that is to be mended first gives the exit code.
URGENT_FIRST = (os.EX_CONFIG, os.EX_NOPERM, os.EX_UNAVAILABLE)


COULD_BE_BETTER = 1
"""It can serve, with warnings."""


class Severity(IntEnum):
    """How much a finding matters."""

    FINE = 0  # as it should be
    NOTE = 1  # nothing to mend, but it explains something
    WARNING = 2  # it serves, and could do it better
    TROUBLE = 3  # it cannot serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    what         in a word or two
    says         what was found, in a line
    fix          what mends it: commands for a shell, or lines for the configuration
    exit_status  of a TROUBLE, one of URGENT_FIRST
    """

    what: str
    says: str
    severity: Severity = Severity.FINE
    fix: tuple[str, ...] = ()
    exit_status: int = os.EX_UNAVAILABLE

    def as_dict(self) -> dict[str, Any]:  # JSON
        return {
            "what": self.what,
            "severity": self.severity.name.lower(),
            "says": self.says,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class RungFinding:
    """One depth. `why_not`: "" if this machine offers it."""

    depth: str
    why_not: str = ""

    def as_dict(self) -> dict[str, Any]:  # JSON
        return {"depth": self.depth, "offered": not self.why_not, "why_not": self.why_not}


@dataclass(frozen=True, slots=True)
class Report:
    """The whole check-up. `subject`: the machine, in a line."""

    subject: str
    rungs: tuple[RungFinding, ...]
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)

    @property
    def exit_status(self) -> int:
        """By the worst of them: 0 nothing to mend, COULD_BE_BETTER, or it cannot serve."""
        statuses = {finding.exit_status for finding in self.of(Severity.TROUBLE)}
        better = COULD_BE_BETTER if self.of(Severity.WARNING) else os.EX_OK
        return next((status for status in URGENT_FIRST if status in statuses), better)

    def as_dict(self) -> dict[str, Any]:  # JSON
        return {
            "exit_status": self.exit_status,
            "machine": self.subject,
            "rungs": _dicts(self.rungs),
            "findings": _dicts(self.findings),
        }


def _dicts(parts: Iterable[Finding | RungFinding]) -> list[dict[str, Any]]:  # JSON
    return [part.as_dict() for part in parts]
