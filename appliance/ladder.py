"""Which rungs this machine offers, and at what price until they have been measured."""

from __future__ import annotations

from policies.ladder import Depth, Ladder, Rung

# One H200 with a 13 GB model, awake with perf boost off, against engine stopped:
# 0 ± 0.7 W apart; plain start 29 to 36 s (docs/measurements, 2026-11-21). Here
# only as a guess, marked "built-in", until the machine itself has been measured.
AWAKE = Rung(depth=Depth.AWAKE, power_w=80.0)
OFF = Rung(depth=Depth.OFF, power_w=79.0, enter_s=2.0, wake_s=30.0, wake_j=3000.0)


def offered(*, last_wake_s: float | None) -> Ladder:
    """AWAKE and OFF. `last_wake_s`: what the ledger says a wake took here."""
    off = OFF
    if last_wake_s is not None:
        off = Rung(
            depth=Depth.OFF,
            power_w=OFF.power_w,
            enter_s=OFF.enter_s,
            wake_s=last_wake_s,
            wake_j=OFF.wake_j,
        )
    return (AWAKE, off)
