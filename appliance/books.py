"""Books every joule that the meter counts to what the engine was doing.

The meter is read when something changes: a request begins or ends, the engine
moves, an hour is over. Between two readings the energy belongs to one line and,
while requests run, to those that ran, in equal shares of the time. Nothing is
polled. What was not measured is None, never 0.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from appliance.answers import EnergyShare
from appliance.clock import Clock, iso
from appliance.ledger import Line, Spent, word
from drivers.errors import DriverError
from drivers.protocols import Meter, Sample
from policies.ladder import Depth

log = logging.getLogger(__name__)

SHORT_S = 1.0
"""Windows shorter than this say little: NVML's power reading is a 1 s mean or worse
(Yang, Adamek & Armour, "Part-time power measurements", SC'24)."""


@dataclass(slots=True, eq=False)
class Share:
    """One request's part, while it runs."""

    seconds: float = 0.0
    energy_j: float | None = 0.0
    floor_j: float = 0.0
    floor_known: bool = True


@dataclass(slots=True)
class _Open:
    """The row that is being filled."""

    line: Line
    depth: Depth
    started_at: str
    started_s: float
    energy_j: float | None = 0.0


class Books:
    """One engine's books. `turn` when it moves; `begin` and `end` around each request.

    period  the awake period: when its wake began, in milliseconds since 1970
    """

    def __init__(self, meter: Meter | None, clock: Clock, *, engine: str, device: str) -> None:
        self.engine, self.device = engine, device
        self._meter, self._clock = meter, clock
        self._idle_w = meter.idle_w if meter else None
        self._last: Sample | None = None
        self._last_s = clock.now()
        self._shares: set[Share] = set()
        self._rows: list[Spent] = []
        self._opened = False
        self.period: int | None = None
        self._open = _Open("idle", Depth.OFF, iso(clock.utc()), self._last_s)
        if not self._must_let_go("idle", Depth.OFF):
            self._sample()

    @property
    def depth(self) -> Depth:
        """Where the books have the engine."""
        return self._open.depth

    @property
    def source(self) -> str | None:
        return self._meter.source if self._meter else None

    def rows(self) -> list[Spent]:
        """Rows that are complete; each is handed out once."""
        rows, self._rows = self._rows, []
        return rows

    def turn(self, line: Line, depth: Depth) -> float | None:
        """From here on joules belong to (line, depth). Joules of the row that this closes."""
        self.read()
        now = self._clock.now()
        closed = self._open
        if line == "waking":
            self.period = int(1000 * self._clock.utc().timestamp())
        if now > closed.started_s:
            self._rows.append(
                Spent(
                    engine=self.engine,
                    device=self.device,
                    line=closed.line,
                    depth=word(closed.depth),
                    started_at=closed.started_at,
                    ended_at=iso(self._clock.utc()),
                    seconds=now - closed.started_s,
                    energy_j=closed.energy_j,
                    source=self.source if closed.energy_j is not None else None,
                )
            )
        if closed.line == "idle" and closed.depth is Depth.AWAKE:
            self._learn_floor(closed, now)
        self._open = _Open(line, depth, iso(self._clock.utc()), now)
        if self._must_let_go(line, depth):
            self._close_meter()
        elif self._last is None:
            self._sample()
        return closed.energy_j

    def begin(self) -> Share:
        """A request starts to run."""
        if self._open.line != "request":
            self.turn("request", Depth.AWAKE)
        else:
            self.read()
        share = Share()
        self._shares.add(share)
        return share

    def end(self, share: Share, *, wake_j: float | None) -> EnergyShare:
        """It has ended. What it cost, as far as is known now."""
        self.read()
        self._shares.discard(share)
        if not self._shares and self._open.line == "request":
            self.turn("idle", Depth.AWAKE)
        if share.energy_j is None or self._meter is None:
            return EnergyShare(marginal_j=None, wake_j=wake_j, source=self.source)
        good = share.seconds >= SHORT_S and share.floor_known and self.source != "estimate"
        return EnergyShare(
            marginal_j=share.energy_j - share.floor_j,
            wake_j=wake_j,
            source=self.source,
            quality="good" if good else "low",
        )

    def read(self) -> None:
        """Read the meter, and book what it has counted since it was read before."""
        now = self._clock.now()
        delta_j = self._delta_j()
        elapsed_s, self._last_s = now - self._last_s, now
        if self._open.energy_j is not None:
            self._open.energy_j = None if delta_j is None else self._open.energy_j + delta_j
        for share in self._shares:
            count = len(self._shares)
            share.seconds += elapsed_s
            if delta_j is None or share.energy_j is None:
                share.energy_j = None
                continue
            share.energy_j += delta_j / count
            share.floor_known &= self._idle_w is not None
            share.floor_j += (self._idle_w or 0.0) * elapsed_s / count

    def checkpoint(self) -> None:
        """Close the row and go on with another like it."""
        self.turn(self._open.line, self._open.depth)

    def close(self) -> None:
        """Close the row and let go of the meter."""
        self.checkpoint()
        self._close_meter()

    def _delta_j(self) -> float | None:
        """Joules since the last reading; None if that cannot be said."""
        last = self._last
        if last is None or (sample := self._sample()) is None:
            return None
        # A new epoch: the counter began anew, and what it lost nobody knows.
        return sample.energy_j - last.energy_j if sample.epoch == last.epoch else None

    def _sample(self) -> Sample | None:
        """Look at the meter, unless it can have nothing new to say; and remember it."""
        meter, last = self._meter, self._last
        if meter is None:
            return None
        if last is not None and self._clock.now() - last.at_s < meter.resolution_s:
            return last
        self._last = None
        try:
            if not self._opened:
                meter.open()
                self._opened = True
            self._last = meter.sample()
        except DriverError as error:
            log.warning("not measured: %s", error)
        return self._last

    def _must_let_go(self, line: Line, depth: Depth) -> bool:
        """Resting this deep, a look at the device would wake it or keep it from sleep."""
        deep = line == "idle" and depth >= Depth.STOPPED
        return deep and self._meter is not None and self._meter.wakes_device

    def _close_meter(self) -> None:
        if self._opened and self._meter is not None:
            self._meter.close()
        self._opened, self._last = False, None

    def _learn_floor(self, row: _Open, now: float) -> None:
        """The awake engine's idle draw, where the meter does not know it: the lowest seen.

        Only after it has been idle for a while: the counter still shows the tail
        of a load for 6 to 10 s (docs/measurements, 2026-11-21).
        """
        if self._meter is None or self._meter.idle_w is not None or row.energy_j is None:
            return
        if (seconds := now - row.started_s) >= 20:
            seen_w = row.energy_j / seconds
            self._idle_w = min(self._idle_w or seen_w, seen_w)
