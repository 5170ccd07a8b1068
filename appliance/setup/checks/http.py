"""Check of the HTTP door. Pure."""

from __future__ import annotations

import os

from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from appliance.setup.checks.remedies import restart

WHAT = "HTTP"


def finding(facts: Facts) -> Finding:
    config, seen = facts.config.http, facts.http
    if seen is None:
        return Finding(what=WHAT, says="none, as configured")
    place, keys = str(config.address), config.api_keys_file
    severity, status, fix = Severity.TROUBLE, os.EX_CONFIG, ""
    if seen.keys:
        says, fix = seen.keys, f'umask 077; echo "home: $(openssl rand -hex 24)" > {keys}'
    elif seen.listens == "another":
        says, fix = f"another program listens at {place}", "ss -ltnp    # says which"
    elif seen.readable:
        severity, fix = Severity.WARNING, f"sudo chmod o= {keys}"
        says = f"every user of this machine can read the keys in {keys}"
    elif seen.listens == "wattnap":
        severity, says = Severity.FINE, f"{place} answers, {'with a' if keys else 'without a'} key"
    elif facts.around.status is None:
        severity, says = Severity.NOTE, f"{place} is free; the daemon does not run"
    else:
        status, fix = os.EX_UNAVAILABLE, restart(facts)
        says = f"the daemon does not listen at {place}"
    return Finding(
        what=WHAT,
        says=says,
        severity=severity,
        fix=(fix,) if fix else (),
        exit_status=status,
    )
