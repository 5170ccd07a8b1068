"""What the engine did and which requests ran, in order of time: what joules are shared among.

Told at once when something happens, asked later, when a meter has seen it. Knows no
joules; what a stretch or a request has drawn is written onto it by `appliance.energy.books`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from appliance.energy.attribution import Sight, tail_between_s
from appliance.storage.ledger import Line, word
from policies.ladder import Depth

MEASURED = 0.9
"""Of less than that share of its time nobody says what all of it has drawn."""

LONG_AGO_S = 3600.0


@dataclass(slots=True, eq=False)
class Period:
    """From one wake until the engine leaves AWAKE.

    id        when its wake began, in milliseconds since 1970
    requests  that have begun to run in it
    tail_j    of its tails, as far as they are settled and not shared yet
    shared    its wake has been shared
    """

    id: int
    start_s: float
    shared: bool = False
    requests: int = 0
    tail_j: float = 0.0
    end_s: float = math.inf
    wake: Stretch | None = None


@dataclass(slots=True, eq=False)
class Stretch:
    """One thing that the engine does, from `start_s` on.

    line         "idle" (requests may run: `busy`), "waking" or "entering"
    measured_s   of its time, how much is settled, with
    counted_j    joules
    lost_s       of its time, how much nobody measured
    known        all of it is settled
    row          in the ledger, once it is there
    """

    line: Line
    depth: Depth
    start_s: float
    busy: bool = False
    end_s: float = math.inf
    period: Period | None = None
    measured_s: float = 0.0
    counted_j: float = 0.0
    lost_s: float = 0.0
    known: bool = False
    row: int | None = None

    @property
    def name(self) -> str:
        return f"{self.line} {word(self.depth)}"

    @property
    def energy_j(self) -> float | None:
        """All that it has drawn, or as good as all. None: not known, or not yet."""
        if not self.known or self.measured_s < MEASURED * (self.measured_s + self.lost_s):
            return None
        return self.counted_j if self.measured_s > 0 else None

    @property
    def likely_j(self) -> float | None:
        """What it will have drawn, by what most of it has."""
        if self.known or not self.measured_s:
            return self.energy_j
        seconds = self.end_s - self.start_s
        return self.counted_j * seconds / self.measured_s if self.measured_s > seconds / 2 else None


@dataclass(slots=True, eq=False)
class Share:
    """One request's part, over all its attempts.

    counted_j   above the floor, as far as it is settled, in
    measured_s  seconds; and in
    lost_s      nobody measured
    sure        nothing of it was guessed, but for
    blind_s     while it ran, nobody looked at a meter that has to be looked at
    guessed     so many stretches of it, of which it may be known better yet
    running     attempts that are not settled yet
    written     its row is on its way to the ledger; `row`: it is there
    quality     "low" or "good", once all is settled
    """

    counted_j: float = 0.0
    measured_s: float = 0.0
    lost_s: float = 0.0
    sure: bool = True
    blind_s: float = 0.0
    guessed: int = 0
    running: int = 0
    written: bool = False
    row: int | None = None
    quality: str = "low"
    period: Period | None = None

    @property
    def energy_j(self) -> float | None:
        if self.measured_s < MEASURED * (self.measured_s + self.lost_s) or not self.measured_s:
            return None
        return self.counted_j


@dataclass(slots=True, eq=False)
class Run:
    """One attempt, from `start_s` to `end_s`; the first token came at `first_s`, if any did.

    Tokens: None if the engine did not say.
    """

    share: Share
    start_s: float
    first_s: float | None = None
    end_s: float = math.inf
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    beside: int = 1

    @property
    def told(self) -> bool:
        return self.prompt_tokens is not None and self.completion_tokens is not None

    def tokens(
        self, sight: Sight, look_s: float, next_s: float, pace_hz: float | None
    ) -> tuple[float, float] | None:
        """Of its prompt and of its answer: what was worked on between two looks.

        At an even pace: the prompt until the first token, the answer after it.
        """
        if self.prompt_tokens is None or self.completion_tokens is None:
            if pace_hz is None:
                return None
            return 0.0, pace_hz * sight.between_s(self.start_s, self.end_s, look_s, next_s)
        first_s = self.start_s if self.first_s is None else self.first_s

        def worked(tokens: int, start_s: float, end_s: float) -> float:
            whole_s = max(end_s - start_s, 1e-3)
            seconds = sight.between_s(start_s, start_s + whole_s, look_s, next_s)
            return tokens * max(0.0, seconds) / whole_s  # less by rounding

        return (
            worked(self.prompt_tokens, self.start_s, first_s),
            worked(self.completion_tokens, first_s, self.end_s),
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch's part of the time between two looks.

    tail_s, tail_height_s  of a tail in it: its seconds, and these weighted by its height
    """

    stretch: Stretch
    seconds: float
    tail_s: float = 0.0
    tail_height_s: float = 0.0


@dataclass(slots=True)
class Timeline:
    """`turn`, `begin` and `end` as it happens; `between` and `forget` as it is settled."""

    sight: Sight
    doing: Stretch
    _stretches: deque[Stretch] = field(default_factory=deque)
    _runs: list[Run] = field(default_factory=list)
    _running: int = 0

    @classmethod
    def begun(cls, sight: Sight, now_s: float) -> Timeline:
        """The engine is off, and has long been."""
        doing = Stretch("idle", Depth.OFF, now_s - LONG_AGO_S)
        return cls(sight, doing, deque([doing]))

    def turn(self, line: Line, depth: Depth, now_s: float, period: Period | None) -> Stretch:
        """From here on it does that."""
        return self._go_on(Stretch(line, depth, now_s, period=period))

    def begin(self, share: Share, now_s: float) -> Run:
        """A request begins to run, or to run again."""
        self._running += 1
        if self._running == 1 and self.doing.line == "idle":
            self._change(now_s, busy=True)
        share.running += 1
        run = Run(share, now_s)
        self._runs.append(run)
        return run

    def end(self, run: Run, now_s: float) -> None:
        run.end_s, run.beside = now_s, self._running
        self._running -= 1
        if not self._running and self.doing.busy:
            self._change(now_s, busy=False)

    def _change(self, now_s: float, *, busy: bool) -> None:
        here = self.doing
        self._go_on(Stretch("idle", here.depth, now_s, busy=busy, period=here.period))

    def _go_on(self, stretch: Stretch) -> Stretch:
        self.doing.end_s = stretch.start_s
        self._stretches.append(stretch)
        self.doing = stretch
        return stretch

    def between(self, look_s: float, next_s: float) -> tuple[list[Passage], list[Run]]:
        """All that the meter has added to its sum between two looks."""
        passages = []
        for stretch in self._stretches:
            span = (stretch.start_s, stretch.end_s, look_s, next_s)
            if (seconds := self.sight.between_s(*span)) <= 0:
                continue
            tail = (0.0, 0.0)
            if stretch.line == "idle" and stretch.depth is Depth.AWAKE and not stretch.busy:
                tail = tail_between_s(self.sight, *span)
            passages.append(Passage(stretch, seconds, *tail))
        if not passages:  # looks so close together that nothing is found between them
            passages = [Passage(self._stretches[-1], next_s - look_s)]
        runs = [
            run
            for run in self._runs
            if self.sight.between_s(run.start_s, run.end_s, look_s, next_s) > 0
        ]
        return passages, runs

    def forget(self, seen_s: float) -> tuple[list[Stretch], list[Run]]:
        """Drop what had been seen wholly at `seen_s`, and return it."""
        over_s = seen_s - self.sight.window_s
        stretches = []
        while self._stretches and self._stretches[0].end_s <= over_s:
            stretches.append(self._stretches.popleft())
        runs = [run for run in self._runs if run.end_s <= over_s]
        if runs:
            self._runs = [run for run in self._runs if run.end_s > over_s]
        return stretches, runs
