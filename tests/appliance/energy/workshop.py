"""An engine's life that is told to the books: seconds, watts, requests."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from appliance.energy.attribution import Sight
from appliance.energy.books import Books
from appliance.energy.entries import Entries
from appliance.energy.timeline import Run
from drivers.fake import FakeMeter
from policies.ladder import Depth
from tests.fake_clock import FakeClock


class Workshop:
    """A meter and books on a clock of the test's. Each `look` is the test's, too."""

    def __init__(
        self, power_w: float = 10.0, *, most_w: float = math.inf, source: str = "counter"
    ) -> None:
        self.clock = FakeClock()
        self.meter = FakeMeter(power_w, now=self.clock.now)
        sight = Sight(most_w=most_w)
        self.books = Books(self.clock, engine="main", device="box", source=source, sight=sight)
        self.found = Entries("main", "box", "counter")
        self.books.take(self.meter.sample())

    async def passes(self, seconds: float, power_w: float | None = None) -> None:
        """That long it draws that much; then the meter is looked at."""
        if power_w is not None:
            self.meter.draw(power_w)
        await self.clock.advance(seconds)
        self.books.take(self.meter.sample())

    async def wakes(self, seconds: float = 5.0, power_w: float = 100.0) -> None:
        self.books.turn("waking", Depth.OFF)
        await self.passes(seconds, power_w)
        self.books.turn("idle", Depth.AWAKE)

    async def learns_the_floor(self, power_w: float) -> None:
        """Nothing happens for long enough."""
        await self.passes(11.0, power_w)
        await self.passes(10.0)

    def ends(self, run: Run, prompt: int | None = 10, completion: int | None = 10) -> None:
        run.prompt_tokens, run.completion_tokens = prompt, completion
        self.books.end(run)
        self.books.write(run.share)

    async def serves_one_by_one(self, count: int) -> None:
        """Alone, each: 1 J a token of a prompt, 10 J one of an answer."""
        kinds = [(100, 10), (10, 100), (500, 20), (50, 50), (300, 5), (20, 200)]
        for prompt, completion in itertools.islice(itertools.cycle(kinds), count):
            run = self.books.begin()
            run.first_s = self.clock.now() + 1.0
            await self.passes(1.0, 4.0 + prompt)
            await self.passes(5.0, 4.0 + completion * 10 / 5)
            self.ends(run, prompt, completion)
            await self.passes(20.0, 4.0)

    async def serves_two(self) -> tuple[Run, Run]:
        """At once, in the same time: prompts alike, of the answers one five times as long."""
        first, second = self.books.begin(), self.books.begin()
        first.first_s = second.first_s = self.clock.now() + 1.0
        await self.passes(1.0, 4.0 + 200)
        await self.passes(5.0, 4.0 + (10 * 100 + 10 * 20) / 5)
        self.ends(first, 100, 100)
        self.ends(second, 100, 20)
        return first, second

    def rests(self) -> None:
        self.books.turn("entering", Depth.OFF)
        self.books.turn("idle", Depth.OFF)

    def lines(self) -> dict[tuple[str, ...], Any]:
        """(line, depth, source) -> (seconds, joules), about, of all so far."""
        new = self.books.entries()
        for row, (seconds, joules) in new.lines.items():
            known = self.found.lines.setdefault(row, [0.0, 0.0])
            known[0] += seconds
            known[1] += joules
        self.found.requests += new.requests
        self.found.periods += new.periods
        return {row[1:]: pytest.approx(tuple(sums)) for row, sums in self.found.lines.items()}

    def booked_j(self) -> float:
        return sum(joules for _, joules in self.found.lines.values())
