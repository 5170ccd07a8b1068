"""A story of the simulated plant, played to the books: what the ledger would say of that day.

The books, the rounds and the meter are the real ones; only the clock is not, and nothing
waits. So a day takes seconds, and what was true is known to the joule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from appliance.energy.attribution import Sight
from appliance.energy.books import Books
from appliance.energy.entries import Entries
from appliance.energy.learned import Learned
from appliance.energy.rounds import Rounds
from appliance.energy.timeline import Run, Share, Stretch
from drivers.errors import DriverError
from drivers.plant_meter import PlantMeter, Sensor
from drivers.plant_story import Began, Ended, Event, Story, Turned
from policies.ladder import Depth

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class StoryClock:
    """Shows the time that the story has got to."""

    boot_id = "story"

    def __init__(self, start_s: float) -> None:
        self.at_s = self._start_s = start_s

    def now(self) -> float:
        return self.at_s

    def utc(self) -> datetime:
        return NOON + timedelta(seconds=self.at_s - self._start_s)

    def synced(self) -> bool:
        return True

    async def sleep_until(self, at_s: float) -> None:
        self.at_s = max(self.at_s, at_s)


@dataclass
class Played:
    """What came of it.

    lines    (line, depth) -> joules; ("", "") is time that was not measured, in seconds
    shares   request id -> its share
    metered  what the meter has counted, over all epochs
    looks    how often it was looked at
    """

    learned: Learned
    lines: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    unmeasured_s: float = 0.0
    table_j: float = 0.0
    shares: dict[str, Share] = field(default_factory=dict)
    moves: list[Stretch] = field(default_factory=list)
    metered_j: float = 0.0
    looks: int = 0
    failures: int = 0

    def add(self, entries: Entries) -> None:
        for row in entries.spent():
            self.seconds[row.line, row.depth] += row.seconds
            if row.source == "none":
                self.unmeasured_s += row.seconds
            elif row.source == "table":
                self.table_j += row.energy_j or 0.0
            self.lines[row.line, row.depth] += row.energy_j or 0.0
        self.moves += entries.moves


def play(story: Story, sensor: Sensor, *, learned: Learned | None = None) -> Played:
    """The whole story, seen through that sensor."""
    events, plant = story.events, story.plant()
    clock = StoryClock(events[0].at_s)
    meter = PlantMeter(plant, sensor, now=clock.now)
    sight = Sight(meter.window_s, meter.most_w)
    books = Books(
        clock, engine="main", device="plant", source=meter.source, sight=sight, learned=learned
    )
    rounds = Rounds([meter], late_s=sight.window_s)
    played = Played(books.learned)
    books.stirred = lambda turned: (rounds.turned if turned else rounds.edge)(clock.at_s)
    runs: dict[str, Run] = {}
    last = None

    def look() -> None:
        nonlocal last
        played.looks += 1
        try:
            sample = meter.sample()
        except DriverError:
            played.failures += 1
            books.miss()
        else:
            if last is not None and last.epoch == sample.epoch:
                played.metered_j += sample.energy_j - last.energy_j
            last = sample
            books.take(sample)
        rounds.looked([meter.name], clock.at_s)
        played.add(books.entries())

    for until_s, event in _until(events, story.now_s):
        while (due_s := max(clock.at_s, rounds.due_s(books.doing))) <= until_s:
            clock.at_s = due_s
            look()
        clock.at_s = until_s
        if event is not None:
            _tell(books, runs, played, event)
    look()
    books.close()
    played.add(books.entries())
    return played


def _until(events: tuple[Event, ...], end_s: float) -> Iterator[tuple[float, Event | None]]:
    for event in events:
        yield event.at_s, event
    yield end_s, None


def _tell(books: Books, runs: dict[str, Run], played: Played, event: Event) -> None:
    match event:
        case Turned(line=line, depth=depth):
            books.turn(line, Depth[depth.upper()])
        case Began(request=request):
            runs[request.id] = books.begin()
        case Ended(request=request):
            run = runs.pop(request.id)
            run.first_s = run.start_s + request.prefill_s
            run.prompt_tokens = request.prompt_tokens
            run.completion_tokens = request.completion_tokens
            books.end(run)
            books.write(run.share)
            played.shares[request.id] = run.share
