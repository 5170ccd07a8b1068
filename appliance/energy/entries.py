"""What the books have found and the ledger has not: one write, made when they say so.

Rows of moves and requests exist already, without their joules. Their numbers stand on
the stretch or the share once they were written, in the same thread, a moment ago.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.energy.timeline import Share, Stretch
from appliance.storage import ledger, rollup
from appliance.storage.ledger import Ended, Line, Metered, Spent
from appliance.storage.sql import Database

Row = tuple[str, Line, str, str]
"""(hour, line, depth, source)"""


@dataclass(slots=True)
class Entries:
    """source    of the meter that bills; "none" without one
    lines     (seconds, joules) to be added to each; not measured: 0 J
    moves     whose joules are known now
    requests  likewise
    periods   awake periods that are over
    metered   what each meter has counted
    learned   what is known of this machine now
    """

    engine: str
    device: str
    source: str
    lines: dict[Row, list[float]] = field(default_factory=dict)
    moves: list[Stretch] = field(default_factory=list)
    requests: list[Share] = field(default_factory=list)
    periods: list[Ended] = field(default_factory=list)
    metered: list[Metered] = field(default_factory=list)
    learned: dict[tuple[str, str], float] = field(default_factory=dict)
    at: str = ""

    def __bool__(self) -> bool:
        return any((self.lines, self.moves, self.requests, self.periods, self.metered))

    def write(self, db: Database) -> int:
        """Returns how many awake periods have ended with it."""
        for line in self.spent():
            ledger.add_up(db, line)
        for counted in self.metered:
            ledger.add_up(db, counted)
        for stretch in self.moves:
            if stretch.row is not None and stretch.energy_j is not None:
                ledger.moved(db, stretch.row, stretch.energy_j, self.source)
        for share in self.requests:
            if share.row is not None:
                source = None if share.energy_j is None else self.source
                ledger.settled(db, share.row, share.energy_j, source, share.quality)
        for period in self.periods:
            rollup.end_period(db, period)
        ledger.keep_learned(db, self.engine, self.device, self.learned, self.at)
        return len(self.periods)

    def spent(self) -> list[Spent]:
        return [
            Spent(
                engine=self.engine,
                device=self.device,
                hour=hour,
                line=line,
                depth=depth,
                source=source,
                seconds=seconds,
                energy_j=None if source == "none" else energy_j,
            )
            for (hour, line, depth, source), (seconds, energy_j) in self.lines.items()
        ]
