"""What happened to a simulated device, told in order: the events, and the plant they make.

Whoever plays the story to a ledger knows what that should have found. Depths are words
here: drivers know no policies.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from drivers.plant import Cause, Piece, Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Watts:
    """What the device draws.

    floor_w      by depth: at rest there
    boost_w      an idle awake engine draws that much above its floor
    waking_w     all of it, while the engine climbs
    entering_w   all of it, on the way down
    tail_w       just after the last request, falling to 0 within tail_s
    prefill_j    of one token of a prompt
    decode_j     of one token of an answer
    """

    floor_w: Mapping[str, float]
    boost_w: float = 0.0
    waking_w: float
    entering_w: float
    tail_w: float = 0.0
    tail_s: float = 8.0
    prefill_j: float
    decode_j: float


H200 = Watts(
    # docs/measurements/2026-11-21-gpu-states.md: the floors, the boost, the tail (60 to 100 J
    # within 6 to 10 s), joules per token of one stream. Waking and entering are made up.
    floor_w={"awake": 79.0, "light": 79.0, "parked": 77.5, "stopped": 76.0, "off": 75.5},
    boost_w=0.0,
    waking_w=150.0,
    entering_w=110.0,
    tail_w=20.0,
    prefill_j=0.05,
    decode_j=2.05,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request. `after_s`: since what was told before it."""

    id: str
    after_s: float = 0.0
    prefill_s: float
    decode_s: float
    prompt_tokens: int
    completion_tokens: int

    @property
    def seconds(self) -> float:
        return self.prefill_s + self.decode_s


@dataclass(frozen=True, slots=True)
class Turned:
    """From here on it is at `depth`, or moves: entering it, or waking from it."""

    at_s: float
    line: Literal["idle", "entering", "waking"]
    depth: str


@dataclass(frozen=True, slots=True)
class Began:
    at_s: float
    request: Served


@dataclass(frozen=True, slots=True)
class Ended:
    at_s: float
    request: Served


Event = Turned | Began | Ended


class Story:
    """Told from `start_s` on, one thing after the other; `now_s` is where it has got to."""

    def __init__(self, watts: Watts, *, start_s: float = 0.0, depth: str = "off") -> None:
        self.now_s = start_s
        self.depth = depth
        self._watts = watts
        self._pieces: list[Piece] = []
        self._events: list[Event] = [Turned(start_s, "idle", depth)]
        self._warm_until_s = start_s

    @property
    def events(self) -> tuple[Event, ...]:
        """In order of time; what ends comes before what begins at the same instant."""
        return tuple(sorted(self._events, key=lambda e: (e.at_s, not isinstance(e, Ended))))

    def plant(self) -> Plant:
        return Plant(self._pieces)

    def rest(self, seconds: float) -> None:
        """Nothing happens."""
        end_s = self.now_s + seconds
        self._draw_floor(end_s)
        if self._warm_until_s > self.now_s:
            until_s = min(self._warm_until_s, end_s)
            first_w, last_w = (self._tail_w(at_s) for at_s in (self.now_s, until_s))
            self._draw(Cause("tail", self.depth), until_s, first_w, last_w)
        self.now_s = end_s

    def wake(self, seconds: float) -> None:
        """Climb to awake."""
        self._turn("waking", self.depth)
        self._draw(Cause("waking", self.depth), self.now_s + seconds, self._watts.waking_w)
        self._arrive("awake", seconds)

    def enter(self, depth: str, seconds: float) -> None:
        """Go down to `depth`."""
        self._turn("entering", depth)
        self._draw(Cause("entering", depth), self.now_s + seconds, self._watts.entering_w)
        self._arrive(depth, seconds)

    def serve(self, *requests: Served) -> None:
        """All of these, until the last has ended.

        Raises ValueError if it is not awake.
        """
        if self.depth != "awake":
            raise ValueError(f"serves while {self.depth}")
        watts, now_s = self._watts, self.now_s
        end_s = max(now_s + request.after_s + request.seconds for request in requests)
        first_s = min(now_s + request.after_s for request in requests)
        if first_s > now_s:
            self.rest(first_s - now_s)
        self._draw_floor(end_s)
        for request in requests:
            cause = Cause("request", request.id)
            at_s = now_s + request.after_s
            decodes_s = at_s + request.prefill_s
            prefill_j = request.prompt_tokens * watts.prefill_j
            decode_j = request.completion_tokens * watts.decode_j
            ended_s = at_s + request.seconds
            self._pieces += [
                Piece(cause, at_s, decodes_s, prefill_j / request.prefill_s),
                Piece(cause, decodes_s, ended_s, decode_j / request.decode_s),
            ]
            self._events += [Began(at_s, request), Ended(ended_s, request)]
        self.now_s = end_s
        self._warm_until_s = end_s + watts.tail_s

    def _arrive(self, depth: str, seconds: float) -> None:
        self.now_s += seconds
        self._warm_until_s = self.now_s
        self.depth = depth
        self._turn("idle", depth)

    def _turn(self, line: Literal["idle", "entering", "waking"], depth: str) -> None:
        self._events.append(Turned(self.now_s, line, depth))

    def _draw_floor(self, end_s: float) -> None:
        self._draw(Cause("idle", self.depth), end_s, self._watts.floor_w[self.depth])
        if self.depth == "awake" and self._watts.boost_w:
            self._draw(Cause("boost", self.depth), end_s, self._watts.boost_w)

    def _draw(
        self, cause: Cause, end_s: float, power_w: float, last_w: float | None = None
    ) -> None:
        if end_s > self.now_s:
            self._pieces.append(Piece(cause, self.now_s, end_s, power_w, last_w))

    def _tail_w(self, at_s: float) -> float:
        left_s = self._warm_until_s - at_s
        return self._watts.tail_w * left_s / self._watts.tail_s


def a_day(
    seed: int,
    watts: Watts = H200,
    *,
    hours: float = 24.0,
    start_s: float = 0.0,
    idle_timeout_s: float = 300.0,
    depth: str = "stopped",
    pause_s: float = 1200.0,
) -> Story:
    """Conversations and bursts by chance, on an engine that rests after a while. By `seed` alone.

    idle_timeout_s  after that long it goes down
    depth           where it rests
    pause_s         between two conversations, on average
    """
    dice = random.Random(seed)  # noqa: S311 - no secret
    story = Story(watts, start_s=start_s, depth=depth)
    end_s = start_s + hours * 3600
    count = 0
    while True:
        pause = dice.expovariate(1 / pause_s)
        if story.now_s + pause >= end_s:
            break
        if story.depth == "awake" and pause > idle_timeout_s:
            story.rest(idle_timeout_s)
            story.enter(depth, dice.uniform(0.5, 3.0))
            pause -= idle_timeout_s
        story.rest(pause)
        if story.depth != "awake":
            story.wake(dice.uniform(2.0, 8.0))
        for _ in range(dice.randint(1, 5)):
            at_once = dice.choice((1, 1, 1, 2, 4))
            story.serve(*(_request(dice, f"r{count + n}") for n in range(at_once)))
            count += at_once
            story.rest(dice.expovariate(1 / 15.0))
    if story.now_s < end_s:
        story.rest(end_s - story.now_s)
    return story


def _request(dice: random.Random, id: str) -> Served:
    prompt_tokens = 1 + int(dice.lognormvariate(5.5, 1.0))
    completion_tokens = 1 + int(dice.lognormvariate(5.0, 1.0))
    return Served(
        id=id,
        after_s=dice.uniform(0.0, 2.0),
        prefill_s=max(0.02, prompt_tokens / dice.uniform(3000, 6000)),
        decode_s=completion_tokens / dice.uniform(40, 60),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )
