"""One interval between two looks at the meter: which line, which request gets what of it.

Told what was counted and what went on (`timeline`), it asks what was to be expected
(`learned`), shares (`attribution`), and writes the result onto the lines, the stretches and
the requests. Reads no meter and no clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from operator import mul

from appliance.energy.attribution import TAIL_S, Part, Shared, Sight, parted, share
from appliance.energy.entries import Entries
from appliance.energy.learned import STRETCH_S, Learned
from appliance.energy.timeline import Passage, Run, Share, Stretch
from appliance.storage.ledger import Line, word
from policies.ladder import Depth

HOLD_S = 60.0
"""An interval waits no longer than that for its requests to end."""
GUESSES = 400
"""So many intervals are shared anew once it is known what a token draws: that takes half a minute
of serving."""
PLAIN = 0.1
"""What took less of an interval than that teaches nothing: by how much the rest of it is off its
floor would look like many times the power."""


@dataclass(slots=True)
class Interval:
    """counted_j      None: not measured
    hours          when it was: (hour, share of its time)
    passages, runs what went on in it
    stretches, ran what is over with it
    blind          power was not looked at when it should have been: its sum is a straight line
    """

    start_s: float
    end_s: float
    counted_j: float | None
    hours: list[tuple[str, float]]
    passages: list[Passage]
    runs: list[Run]
    stretches: list[Stretch]
    ran: list[Run]
    blind: bool = False


@dataclass(slots=True)
class _Guess:
    """What several requests drew together, and how it was shared by time."""

    above_j: float
    worked: list[tuple[float, float]]
    given_j: list[tuple[Share, float]]


@dataclass(slots=True)
class _Lesson:
    """Some seconds of serving, from which is learned what tokens draw."""

    seconds: float = 0.0
    above_j: float = 0.0
    prompt: float = 0.0
    completion: float = 0.0


class Settlement:
    """entries  where the lines are added up; replaced by whoever writes them down
    corrected  requests that have another share than they had; emptied by whoever knows their rows
    """

    def __init__(self, sight: Sight, learned: Learned, entries: Entries) -> None:
        self.entries = entries
        self.corrected: list[Share] = []
        self._sight, self._learned = sight, learned
        self._lesson = _Lesson()
        self._guesses: deque[_Guess] = deque(maxlen=GUESSES)

    def see(self, interval: Interval) -> None:
        """Learn from what drew alone. As soon as it was seen: earlier intervals may wait for it."""
        if interval.counted_j is None:
            return
        idle: list[Passage] = []
        working: list[Passage] = []
        for passage in interval.passages:
            stretch = passage.stretch
            (working if stretch.busy or stretch.line != "idle" else idle).append(passage)
        if not working and len(idle) == 1:
            self._see_idle(interval, idle[0], interval.counted_j)
        elif len(working) == 1 and not working[0].stretch.busy:
            (moving,) = working
            parts = [self._part(passage) for passage in idle]
            if all(part.floor_w is not None for part in parts):
                known = [p.seconds * (p.floor_w or 0.0) + (p.expected_j or 0.0) for p in parts]
                moving_j = interval.counted_j - math.fsum(known)
                if self._plain(moving.seconds, moving_j, idle):
                    self._learned.see_move(moving.stretch.name, moving.seconds, moving_j)

    def _see_idle(self, interval: Interval, passage: Passage, counted_j: float) -> None:
        stretch, learned = passage.stretch, self._learned
        if interval.start_s - self._sight.window_s - stretch.start_s >= TAIL_S:
            learned.see_floor(stretch.depth, passage.seconds, counted_j)
        elif passage.tail_s and (floor_w := learned.floor_w(stretch.depth)) is not None:
            learned.see_tail(passage.tail_height_s, counted_j - floor_w * passage.seconds)

    def _plain(self, seconds: float, joules: float, others: list[Passage]) -> bool:
        """Long enough beside the others, and not more than the device draws."""
        whole_s = seconds + math.fsum(passage.seconds for passage in others)
        return seconds >= PLAIN * whole_s and joules <= self._sight.most_w * seconds

    def ready(self, interval: Interval, now_s: float) -> bool:
        """Nothing that would make it more exact is to be waited for."""
        if interval.counted_j is None or now_s - interval.end_s > HOLD_S:
            return True
        if any(run.end_s == math.inf for run in interval.runs):
            return False  # their tokens
        above = next((p.stretch for p in interval.passages if p.stretch.busy or p.tail_s), None)
        if above is None or self._learned.knows_floor(above.depth):
            return True
        # Above what? Once it is not awake any more, that will not be seen.
        return above.period is None or above.period.end_s < math.inf

    def settle(self, interval: Interval) -> None:
        """Share it."""
        if interval.counted_j is None:
            self._lose(interval)
            return
        busy = [passage for passage in interval.passages if passage.stretch.busy]
        others = [passage for passage in interval.passages if not passage.stretch.busy]
        parts = [self._part(passage) for passage in others]
        if not busy:
            shares = share(interval.counted_j, parts, self._sight.most_w)
            for passage, shared in zip(others, shares, strict=True):
                self._give(interval, passage, shared)
            return
        worked = self._worked(interval)
        expected_j = self._expected_j(worked)
        serving = self._serving(busy, expected_j)
        everyone = [*parts, serving]
        *shares, served = share(interval.counted_j, everyone, self._sight.most_w)
        for passage, shared in zip(others, shares, strict=True):
            self._give(interval, passage, shared)
        depth = busy[0].stretch.depth
        if serving.floor_w is None:
            whole_j = served.floor_j + served.above_j
            self._book(interval, "unattributed", depth, serving.seconds, whole_j)
            self._lose_runs(interval)
            return
        self._book(interval, "idle", depth, serving.seconds, served.floor_j)
        self._book(interval, "request", depth, serving.seconds, served.above_j)
        self._divide(interval, served.above_j, depth, worked, expected_j)
        if self._plain(serving.seconds, served.above_j, others):
            self._teach(interval, parts, serving, worked)
            if (token_j := self._learned.tokens.joules()) is not None:
                self._think_again(token_j, sure=True)

    # What to expect.

    def _part(self, passage: Passage) -> Part:
        learned, stretch, seconds = self._learned, passage.stretch, passage.seconds
        floor_w = learned.likely_floor_w(stretch.depth)
        if stretch.line == "idle":
            seen = learned.floor_w(stretch.depth) is not None
            tail_s, height_s = (passage.tail_s, passage.tail_height_s) if seen else (0.0, 0.0)
            return Part(seconds, floor_w, tail_s, learned.tail_w * height_s)
        move_w = learned.move_w(stretch.name)
        if move_w is None or floor_w is None:
            return Part(seconds, floor_w, seconds, None)
        return Part(seconds, floor_w, seconds, (move_w - floor_w) * seconds)

    def _serving(self, busy: list[Passage], expected_j: list[float] | None) -> Part:
        seconds = math.fsum(passage.seconds for passage in busy)
        floor_w = self._learned.likely_floor_w(busy[0].stretch.depth)
        if expected_j is not None:
            return Part(seconds, floor_w, seconds, math.fsum(expected_j))
        serving_w = self._learned.serving_w
        return Part(seconds, floor_w, seconds, None if serving_w is None else serving_w * seconds)

    def _worked(self, interval: Interval) -> list[tuple[float, float]] | None:
        """Tokens of each run's prompt and answer; None: of one of them nobody knows."""
        found = []
        for run in interval.runs:
            pace_hz = self._learned.pace_hz
            tokens = run.tokens(self._sight, interval.start_s, interval.end_s, pace_hz)
            if tokens is None:
                return None
            found.append(tokens)
        return found

    def _expected_j(self, worked: list[tuple[float, float]] | None) -> list[float] | None:
        """What each run should have drawn; None until it is known what tokens draw."""
        token_j = self._learned.tokens.joules()
        if worked is None or token_j is None:
            return None
        return [prompt * token_j[0] + answer * token_j[1] for prompt, answer in worked]

    # What has come of it.

    def _give(self, interval: Interval, passage: Passage, shared: Shared) -> None:
        stretch, seconds = passage.stretch, passage.seconds
        if stretch.line != "idle":
            whole_j = shared.floor_j + shared.above_j
            stretch.counted_j += whole_j
            stretch.measured_s += seconds
            self._book(interval, stretch.line, stretch.depth, seconds, whole_j)
            return
        self._book(interval, "idle", stretch.depth, seconds, shared.floor_j)
        if passage.tail_s > 0:
            self._book(interval, "tail", stretch.depth, passage.tail_s, shared.above_j)
            if stretch.period is not None:
                stretch.period.tail_j += shared.above_j

    def _divide(
        self,
        interval: Interval,
        above_j: float,
        depth: Depth,
        worked: list[tuple[float, float]] | None,
        expected_j: list[float] | None,
    ) -> None:
        """Among the runs: by tokens, or by time until it is known what these draw."""
        seconds, runs = self._seconds(interval), interval.runs
        joules = parted(above_j, expected_j or seconds, seconds)
        by_time = expected_j is None and len(runs) > 1
        again = by_time and worked is not None and all(run.told for run in runs)
        for run, run_s, run_j in zip(runs, seconds, joules, strict=True):
            run.share.counted_j += run_j
            run.share.measured_s += run_s
            run.share.guessed += again
            if interval.blind:
                run.share.blind_s += interval.end_s - interval.start_s
            if self._learned.floor_w(depth) is None or (by_time and not again):
                run.share.sure = False
        if again and worked is not None:
            given_j = [(run.share, run_j) for run, run_j in zip(runs, joules, strict=True)]
            self._guesses.append(_Guess(above_j, worked, given_j))

    def leave(self) -> None:
        """An awake period is over: its requests are final with what is known by now."""
        if (token_j := self._learned.tokens.joules(least=1.0)) is not None:
            self._think_again(token_j, sure=False)
        self._guesses.clear()

    def _think_again(self, token_j: tuple[float, float], *, sure: bool) -> None:
        """It is known now what a token draws: what was shared by time is shared by that."""
        while self._guesses:
            guess = self._guesses.popleft()
            expected_j = [sum(map(mul, token_j, tokens)) for tokens in guess.worked]
            joules = parted(guess.above_j, expected_j, [1.0] * len(expected_j))
            for (shared, given_j), run_j in zip(guess.given_j, joules, strict=True):
                # Below 0 by rounding at most: what was given is in it.
                shared.counted_j = max(0.0, shared.counted_j + run_j - given_j)
                shared.guessed -= sure
                if shared not in self.corrected:
                    self.corrected.append(shared)

    def _teach(
        self,
        interval: Interval,
        parts: list[Part],
        serving: Part,
        worked: list[tuple[float, float]] | None,
    ) -> None:
        """What was left for the requests is what their tokens have drawn."""
        if any(part.expected_j is None for part in parts) or interval.counted_j is None:
            return
        known = [part.seconds * (part.floor_w or 0.0) for part in (*parts, serving)]
        known += [part.expected_j or 0.0 for part in parts]
        above_j = interval.counted_j - math.fsum(known)
        self._learned.see_serving(serving.seconds, above_j)
        if worked is None or not all(run.told for run in interval.runs):
            return
        lesson = self._lesson
        lesson.seconds += serving.seconds
        lesson.above_j += above_j
        lesson.prompt += math.fsum(prompt for prompt, _ in worked)
        lesson.completion += math.fsum(answer for _, answer in worked)
        if lesson.seconds >= STRETCH_S:
            self._learned.tokens.add(lesson.prompt, lesson.completion, lesson.above_j)
            self._lesson = _Lesson()

    def _lose(self, interval: Interval) -> None:
        """Nobody measured it. Rest alone is known well enough without."""
        for passage in interval.passages:
            stretch, seconds = passage.stretch, passage.seconds
            stretch.lost_s += seconds
            floor_w = None
            if stretch.line == "idle" and stretch.depth is not Depth.AWAKE:
                floor_w = self._learned.floor_w(stretch.depth)
            joules = None if floor_w is None else floor_w * seconds
            source = "none" if floor_w is None else "table"
            self._book(interval, stretch.line, stretch.depth, seconds, joules, source)
        self._lose_runs(interval)

    def _lose_runs(self, interval: Interval) -> None:
        for run, seconds in zip(interval.runs, self._seconds(interval), strict=True):
            run.share.lost_s += seconds

    def _seconds(self, interval: Interval) -> list[float]:
        span = (interval.start_s, interval.end_s)
        return [self._sight.between_s(run.start_s, run.end_s, *span) for run in interval.runs]

    def _book(
        self,
        interval: Interval,
        line: Line,
        depth: Depth,
        seconds: float,
        joules: float | None,
        source: str = "",
    ) -> None:
        for hour, part in interval.hours:
            row = self.entries.lines.setdefault(
                (hour, line, word(depth), source or self.entries.source), [0.0, 0.0]
            )
            row[0] += part * seconds
            row[1] += part * (joules or 0.0)
