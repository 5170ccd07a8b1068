"""How long to wait for a broker that is not there, and how rarely to speak of it."""

from __future__ import annotations

import logging
import random

log = logging.getLogger(__name__)

STABLE_S = 30.0
SPOKEN_EVERY_S = 600.0
SUSPICIOUS_CUTS = 4


class Outage:
    """Counts what failed since all was well.

    Pauses double from `min_s` up to `max_s`, each shortened by up to half at
    random, so that many appliances do not return to a broker in step. A
    connection that lasted STABLE_S starts them anew. `short_lived` is said when
    connections come about and do not last, again and again; `meanwhile`, what holds
    without one.
    """

    def __init__(
        self,
        broker: str,
        min_s: float,
        max_s: float,
        *,
        short_lived: str = "",
        meanwhile: str = "accepted requests are served, answers wait for it",
    ) -> None:
        self._broker, self._min_s, self._max_s = broker, min_s, max_s
        self._short_lived, self._meanwhile = short_lived, meanwhile
        self._cut = 0
        self._failures = 0
        self._since_s = 0.0
        self._spoken_s: float | None = None

    def connected(self, now_s: float) -> None:
        """Say so, if it had been said that it was gone."""
        if self._spoken_s is not None:
            gone_s = now_s - self._since_s
            log.info("connected to the broker at %s after %.0f s", self._broker, gone_s)
        else:
            log.info("connected to the broker at %s", self._broker)
        self._spoken_s = None

    def failed(self, reason: str, now_s: float, *, lasted_s: float, at_most: bool = False) -> float:
        """Take note of a failure; the seconds to wait before the next attempt.

        `lasted_s`: how long there was a connection. `at_most`: trying sooner
        than after the longest pause would do harm.
        """
        self._cut = self._cut + 1 if 0 < lasted_s < STABLE_S else 0
        if lasted_s >= STABLE_S:
            self._failures = 0
        if self._cut == SUSPICIOUS_CUTS:
            log.warning("the broker cuts each connection soon: %s", self._short_lived)
        if self._spoken_s is None:
            self._since_s = now_s
        if self._spoken_s is None or now_s - self._spoken_s >= SPOKEN_EVERY_S:
            self._spoken_s = now_s
            log.warning(
                "no connection to the broker at %s: %s; %s", self._broker, reason, self._meanwhile
            )
        else:
            log.debug("broker at %s: %s", self._broker, reason)
        pause_s = self._max_s if at_most else min(self._max_s, self._min_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 60)
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it
