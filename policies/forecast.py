"""How long the idle period that begins now will last: probabilities, learned from earlier ones.

Several experts each foretell it, and are trusted by how well they did. One knows shapes
(a long tail, no memory) and learns which of them fits; the others count earlier idle
periods: all, the latest, and those that began as this one does: after two gaps like the
last two, with the like of the longest of three, at this hour, after as much work. A little
trust always goes back to everybody, so that who was wrong yesterday can be right tomorrow.

It knows no prices. What it keeps has a fixed size.

Herbster, Warmuth: Tracking the best expert (1998).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, sqrt
from operator import mul
from typing import NamedTuple, Self

from policies.ladder import Now

# Idle times are told apart where they differ by 40 %, from 2 s to a day.
EDGES_S = (0.0, *(2.0 * 1.4**i for i in range(33)))
MIDDLES_S = (
    1.2,
    *(sqrt(low * high) for low, high in pairwise(EDGES_S[1:])),
    1.5 * EDGES_S[-1],
)

# Coarser, for what came before. A class 0 besides: nothing yet.
GAP_CLASSES_S = (6.0, 15.0, 45.0, 150.0, 600.0, 3600.0)
WORK_CLASSES_S = (3.0, 5.0, 8.0, 13.0, 22.0, 45.0)
CLASSES, HALVES, HOURS = 8, 5, 12

EXPERTS = 7  # the shapes, all, the latest, two like these, longest of three, hour, work
STARTS = (0, 1, 2, 42, 82, 94, 129)  # of each one's part of `counts`, but the shapes'

# Tried on many kinds of traces, real and made up (docs/measurements, policies): results
# hardly change within a factor of two of each.
TRUST_BACK = 0.03  # of all trust, after each gap
SHAPE_BACK = 0.002
LATEST_FADE = 0.95  # what the latest still count for, after each gap
DOUBT = 6.0  # gaps' worth of the shapes in what all and the latest foretell
LOCAL_DOUBT = 5.0  # of what all foretell, in what some foretell


def _shapes() -> tuple[tuple[float, ...], ...]:
    """Of each shape, the probability of each span of idle time.

    The first is the one for which resting at the break-even time is right.
    """
    survivals = [
        [1.0 / (1.0 + edge / 3.0) for edge in EDGES_S],
        *(
            [(1.0 + edge / scale) ** -power for edge in EDGES_S]
            for power in (0.6, 1.2, 3.0)
            for scale in (4.0, 30.0, 250.0)
        ),
        *([exp(-edge / mean) for edge in EDGES_S] for mean in (8.0, 60.0, 400.0, 4000.0)),
    ]
    return tuple(
        tuple(
            0.98 * (now - later) + 0.02 / len(EDGES_S)
            for now, later in zip(survival, [*survival[1:], 0.0], strict=True)
        )
        for survival in survivals
    )


BY_SPAN = tuple(zip(*_shapes(), strict=True))  # (n_spans, n_shapes)
PRIOR = (0.3, *(0.7 / (len(BY_SPAN[0]) - 1) for _ in BY_SPAN[0][1:]))


class Counts(NamedTuple):
    """Idle periods, in all and by span. Not whole numbers: see `and_one`, and some fade."""

    total: float
    by_span: tuple[float, ...]

    def and_one(self, span: int) -> Counts:
        """With one more; half of it in the spans beside, because it might as well have been."""
        low, high = max(0, span - 1), min(span + 1, len(EDGES_S) - 1)
        by_span = list(self.by_span)
        by_span[span] += 0.5
        by_span[low] += 0.25
        by_span[high] += 0.25
        return Counts(self.total + 1.0, tuple(by_span))

    def faded(self) -> Counts:
        return Counts(self.total * LATEST_FADE, tuple(n * LATEST_FADE for n in self.by_span))


NONE = Counts(0.0, (0.0,) * len(EDGES_S))


@dataclass(frozen=True, slots=True)
class Forecast:
    """shapes  how well each fits, together 1
    trust   in each expert, together 1
    counts  of each expert's every circumstance
    latest  classes of the last three gaps, oldest first
    """

    shapes: tuple[float, ...] = PRIOR
    trust: tuple[float, ...] = (1.0 / EXPERTS,) * EXPERTS
    counts: tuple[Counts, ...] = (NONE,) * STARTS[-1]
    latest: tuple[int, int, int] = (0, 0, 0)

    def expect(self, now: Now, until_s: float) -> Sequence[float]:
        """The probability of each span that begins before `until_s`."""
        spans = bisect_left(EDGES_S, until_s)
        shapes, trust = self.shapes, self.trust
        base = [sum(map(mul, column, shapes)) for column in BY_SPAN[:spans]]
        every, latest, *local = (self.counts[place] for place in self._places(now))
        # What an expert has not seen, it takes from the next wider view.
        shares = [
            share / (seen.total + LOCAL_DOUBT) for share, seen in zip(trust[3:], local, strict=True)
        ]
        on_every = (trust[1] + LOCAL_DOUBT * sum(shares)) / (every.total + DOUBT)
        on_latest = trust[2] / (latest.total + DOUBT)
        on_base = trust[0] + DOUBT * (on_every + on_latest)
        weights = (on_base, on_every, on_latest, *shares)
        seen = (every.by_span, latest.by_span, *(counts.by_span for counts in local))
        views = zip(base, *seen, strict=False)  # no farther than `until_s`
        return [sum(map(mul, view, weights)) for view in views]

    def observe(self, idle_s: float, now: Now) -> Self:
        span = bisect_right(EDGES_S, idle_s) - 1
        column, shapes = BY_SPAN[span], self.shapes
        base = sum(map(mul, column, shapes))
        places = self._places(now)
        seen = [self.counts[place] for place in places]
        every = (seen[0].by_span[span] + DOUBT * base) / (seen[0].total + DOUBT)
        latest = (seen[1].by_span[span] + DOUBT * base) / (seen[1].total + DOUBT)
        local = [
            (by_span[span] + LOCAL_DOUBT * every) / (total + LOCAL_DOUBT)
            for total, by_span in seen[2:]
        ]
        earned = tuple(map(mul, self.trust, (base, every, latest, *local)))
        kept, back = (1.0 - TRUST_BACK) / sum(earned), TRUST_BACK / EXPERTS
        counts = list(self.counts)
        for place, before in zip(places, seen, strict=True):
            counts[place] = before.and_one(span)
        counts[places[1]] = seen[1].faded().and_one(span)
        fit = (1.0 - SHAPE_BACK) / base
        return type(self)(
            shapes=tuple(
                fit * weight * likely + SHAPE_BACK * prior
                for weight, likely, prior in zip(shapes, column, PRIOR, strict=True)
            ),
            trust=tuple(kept * share + back for share in earned),
            counts=tuple(counts),
            latest=(*self.latest[1:], 1 + bisect_right(GAP_CLASSES_S, idle_s)),
        )

    def _places(self, now: Now) -> tuple[int, ...]:
        """Where in `counts` each expert's present circumstance is."""
        first, second, third = self.latest
        half = (third + 1) // 2
        longest = max(first, second, third)
        hour = now.minute_of_week % 1440 * HOURS // 1440
        work = bisect_right(WORK_CLASSES_S, now.busy_s)
        return (
            0,
            1,
            STARTS[2] + third * HALVES + (second + 1) // 2,
            STARTS[3] + longest * HALVES + half,
            STARTS[4] + hour,
            STARTS[5] + work * HALVES + half,
        )
