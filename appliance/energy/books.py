"""Books every joule that the meter counts to what it went into.

Told by the engine's mover and its requests what goes on, and by the reader what the
meter says. Between two looks lies an interval; it is settled once all requests in it
have ended, because only then their tokens are known, or when it has waited long enough.
How it is shared is `appliance.energy.attribution`'s, what to expect `appliance.energy.learned`'s.

Nothing here waits, reads a meter or writes a file. Σ lines = meter, always.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from appliance.clock import Clock, hour_of, iso
from appliance.energy.attribution import Sight
from appliance.energy.entries import Entries
from appliance.energy.learned import Learned
from appliance.energy.settlement import Interval, Settlement
from appliance.energy.timeline import MEASURED, Period, Run, Share, Stretch, Timeline
from appliance.storage.ledger import Ended, Line
from drivers.protocols import Sample
from policies.ladder import Depth

SILENCE_S = 900.0
"""What a meter counted is not waited for any longer: it is not measured."""
LONG_S = 3600.0
"""An awake period that lasts longer is settled by the hour."""
SHORT_S = 1.0
"""Requests shorter than this say little: NVML's power reading is a 1 s mean or worse
(Yang, Adamek & Armour, "Part-time power measurements", SC'24)."""
UNMEASURED_S = 60.0
"""Without a meter no look ends an interval: while requests never pause, this does."""
AHEAD_S = 0.05
"""A stamp may seem to lie so far in the future: two clocks are read one after the other."""
NOTHING = 0.0, 0.0
"""Seconds, joules: what the latest look had counted and could not book, since by the meter's
own clock it was no later than what is booked."""


class Books:
    """One engine's books.

    stirred  called when what it does has changed, for the meter to be looked at; with True
             if it is another line or depth, with False if requests began or ended
    """

    def __init__(
        self,
        clock: Clock,
        *,
        engine: str,
        device: str = "unmeasured",
        source: str | None = None,
        sight: Sight | None = None,
        learned: Learned | None = None,
    ) -> None:
        """`source`: of the meter that bills; None: there is none."""
        self.engine, self.device, self.source = engine, device, source
        self.learned = learned or Learned()
        self.stirred: Callable[[bool], None] = lambda _: None
        self._clock = clock
        self._sight = sight or Sight()
        self._timeline = Timeline.begun(self._sight, clock.now())
        self._period: Period | None = None
        self._leaving: deque[Period] = deque()
        self._last: Sample | None = None
        self._missed = False
        self._withheld = NOTHING
        self._shift_s = 0.0
        self._booked_s = self._settled_s = clock.now()
        self._pending: deque[Interval] = deque()
        self._settlement = Settlement(self._sight, self.learned, self._blank())

    # What goes on. None of these waits.

    @property
    def doing(self) -> Stretch:
        return self._timeline.doing

    @property
    def latest(self) -> Sample | None:
        """What the meter said last; None: nothing, or it has been let go since."""
        return self._last

    @property
    def depth(self) -> Depth:
        """Where the books have the engine."""
        return self.doing.depth

    @property
    def woke_s(self) -> float:
        """When the latest wake ended, on the boot clock."""
        wake = self._period.wake if self._period else None
        return 0.0 if wake is None or wake.end_s == math.inf else wake.end_s

    @property
    def late_s(self) -> float:
        """So long after something, a look shows all of it."""
        return self._sight.window_s

    def turn(self, line: Line, depth: Depth) -> Stretch:
        """From here on the engine does that."""
        now_s, going_on = self._clock.now(), self._period
        if line == "idle" and depth is Depth.AWAKE:
            period = going_on
        else:
            if going_on is not None and going_on.end_s == math.inf:
                going_on.end_s = now_s
                self._leaving.append(going_on)
            period = self._begin_period(now_s) if line == "waking" else None
        self._period = period or going_on
        stretch = self._timeline.turn(line, depth, now_s, period)
        if line == "waking" and period is not None:
            period.wake = stretch
        self._stir(turned=True)
        return stretch

    def begin(self, so_far: Share | None = None) -> Run:
        """A request begins to run; again, if it has a share already."""
        shared = so_far or Share()
        if self._period is not None and shared.period is not self._period:
            shared.period = self._period
            self._period.requests += 1
        was_busy = self.doing.busy
        run = self._timeline.begin(shared, self._clock.now())
        if not was_busy:
            self._stir(turned=False)
        return run

    def end(self, run: Run) -> None:
        """Its attempt has ended. Its tokens are on it, if the engine has told them."""
        self._timeline.end(run, self._clock.now())
        if run.completion_tokens is not None:
            self.learned.see_pace(run.end_s - run.start_s, run.completion_tokens)
        if not self.doing.busy:
            self._stir(turned=False)
        elif self.source is None and run.end_s - self._booked_s > UNMEASURED_S:
            self.lapse()

    def write(self, shared: Share) -> None:
        """Its request has its outcome; its row is on its way to the ledger."""
        shared.written = True
        if not shared.running:
            self._close_share(shared)

    def guess_j(self, run: Run) -> float | None:
        """What it has drawn above the floor, by what is known as it ends."""
        if self.source is None:
            return None
        tokens_j = self.learned.tokens.joules()
        if tokens_j and run.prompt_tokens is not None and run.completion_tokens is not None:
            return tokens_j[0] * run.prompt_tokens + tokens_j[1] * run.completion_tokens
        if (serving_w := self.learned.serving_w) is None:
            return None
        return max(0.0, serving_w) * (run.end_s - run.start_s) / run.beside

    def guess_wake_j(self, shared: Share) -> float | None:
        """Its part of the wake, if nobody else comes."""
        period = shared.period
        if self.source is None or period is None or period.wake is None:
            return None
        wake_j = period.wake.likely_j
        return None if wake_j is None else wake_j / period.requests

    def _begin_period(self, now_s: float) -> Period:
        id = int(1000 * self._clock.utc().timestamp())
        if self._period is not None:
            id = max(id, self._period.id + 1)  # wall time may be set back
        return Period(id, now_s)

    def _stir(self, *, turned: bool) -> None:
        if self.source is None:
            self.lapse()
        self.stirred(turned)

    # What the meter says.

    def take(self, sample: Sample) -> None:
        """It was looked at. Not earlier than the sample before."""
        at_s, last, counted_j = self._stamp(sample), self._last, None
        if last is not None and last.epoch == sample.epoch:
            counted_j = sample.energy_j - last.energy_j
            if at_s <= self._booked_s:
                # Nothing new by its own clock; what it may have counted comes with the next.
                self._withheld = self._clock.now(), counted_j
                return
        else:
            # A new epoch: the counter began anew, and what it lost nobody knows.
            self._book_withheld()
        self._last, self._withheld = sample, NOTHING
        blind, self._missed = self._missed and self.source == "integral", False
        self._book(at_s, counted_j, blind=blind)

    def lapse(self) -> None:
        """Until now nothing was measured since the last look, and will not be."""
        self._book_withheld()
        self._last = None
        self._book(self._clock.now(), None)

    def _book_withheld(self) -> None:
        """No look comes that could have brought it."""
        at_s, counted_j = self._withheld
        self._withheld = NOTHING
        if counted_j > 0:
            self._book(at_s, counted_j)

    def miss(self) -> None:
        """The meter did not answer. What it counts meanwhile is waited for, but not for ever."""
        self._missed = True
        if self._clock.now() - self._booked_s > SILENCE_S:
            self.lapse()

    def checkpoint(self) -> None:
        """An hour is over: of a long awake period, what is settled need not wait for its end."""
        if self.source is None:
            self.lapse()
        period = self._period
        if (
            period is not None
            and period.end_s == math.inf
            and self._settled_s - period.start_s > LONG_S
        ):
            over = self._clock.now() - self._settled_s + self.late_s + 1.0
            self._end(period, until=iso(self._clock.utc() - timedelta(seconds=over)))

    def close(self) -> None:
        """Nothing will be measured any more: settle all, with what is known."""
        behind = self._clock.now() - self._booked_s > AHEAD_S
        if self._missed or self._withheld[1] > 0 or behind:
            self.lapse()  # there is no next look, or the last one has failed
        self._settle(everything=True)
        if self._period is not None and self._period.end_s == math.inf:
            self._leaving.append(self._period)
        self._conclude(*self._timeline.forget(math.inf), math.inf)

    def entries(self) -> Entries:
        """What is to be written down, once."""
        found, self._settlement.entries = self._settlement.entries, self._blank()
        return found

    @property
    def pressing(self) -> bool:
        """A move or an awake period is over, and all of it is settled."""
        entries = self._settlement.entries
        return bool(entries.moves or entries.periods)

    @property
    def answered(self) -> bool:
        """Requests are settled, and none runs."""
        return bool(self._settlement.entries.requests) and not self.doing.busy

    def _blank(self) -> Entries:
        return Entries(self.engine, self.device, self.source or "none")

    def _close_share(self, shared: Share) -> None:
        """How far its joules can be trusted."""
        if self.source is None:
            return  # its row says already that it was not measured
        short = shared.measured_s < max(SHORT_S, 2 * self._sight.window_s)
        guessed = shared.guessed or not shared.sure
        lost = shared.lost_s or shared.blind_s > (1 - MEASURED) * shared.measured_s
        doubtful = short or lost or guessed or self.source == "estimate"
        shared.quality = "low" if doubtful else "good"
        self._settlement.entries.requests.append(shared)

    def _stamp(self, sample: Sample) -> float:
        """When it was, on our clock. A clock that has jumped is followed."""
        now_s, last = self._clock.now(), self._last
        ahead = sample.at_s + self._shift_s > now_s + AHEAD_S
        if ahead or (last is not None and sample.at_s < last.at_s):
            self._shift_s = now_s - sample.at_s
        return min(now_s, sample.at_s + self._shift_s)

    def _book(self, at_s: float, counted_j: float | None, *, blind: bool = False) -> None:
        """What was counted until then goes to what went on since the last time."""
        if at_s <= self._booked_s:
            return
        passages, runs = self._timeline.between(self._booked_s, at_s)
        stretches, ran = self._timeline.forget(at_s)
        hours = self._hours(self._booked_s, at_s)
        span = (self._booked_s, at_s)
        interval = Interval(*span, counted_j, hours, passages, runs, stretches, ran, blind)
        self._booked_s = at_s
        self._settlement.see(interval)
        self._pending.append(interval)
        self._settle()

    def _hours(self, start_s: float, end_s: float) -> list[tuple[str, float]]:
        """(hour, share of the time between the two instants)."""
        now_s, now = self._clock.now(), self._clock.utc()
        start = now - timedelta(seconds=now_s - start_s)
        end = now - timedelta(seconds=now_s - end_s)
        whole, hours = (end - start) / timedelta(hours=1), []
        while (hour := hour_of(start)) != hour_of(end):
            begun = datetime.fromisoformat(hour)
            hours.append((hour, (begun + timedelta(hours=1) - start) / timedelta(hours=1) / whole))
            start = begun + timedelta(hours=1)
        hours.append((hour, (end - start) / timedelta(hours=1) / whole if hours else 1.0))
        return hours

    def _settle(self, *, everything: bool = False) -> None:
        """From the oldest interval on, as far as can be."""
        now_s = self._clock.now()
        while self._pending and (everything or self._settlement.ready(self._pending[0], now_s)):
            interval = self._pending.popleft()
            self._settlement.settle(interval)
            self._correct()
            self._settled_s = interval.end_s
            self._conclude(interval.stretches, interval.ran, interval.end_s - self.late_s)

    def _correct(self) -> None:
        """Of the rows that are there, some are known better now."""
        changed, self._settlement.corrected = self._settlement.corrected, []
        for shared in changed:
            if shared.written and not shared.running:
                self._close_share(shared)

    def _conclude(self, stretches: list[Stretch], ran: list[Run], settled_s: float) -> None:
        """These are over; and everything before `settled_s` is known."""
        entries = self._settlement.entries
        for stretch in stretches:
            stretch.known = True
            if stretch.line != "idle":
                entries.moves.append(stretch)
        for run in ran:
            run.share.running -= 1
            if not run.share.running and run.share.written:
                self._close_share(run.share)
        while self._leaving and self._leaving[0].end_s <= settled_s:
            self._end(self._leaving.popleft(), until=None)

    def _end(self, period: Period, *, until: str | None) -> None:
        """What ended in it until then has its part of the wake and of the tails so far."""
        self._settlement.leave()
        self._correct()
        wake_j: float | None = 0.0
        if not period.shared and period.wake is not None:
            wake_j = period.wake.energy_j
        ended = Ended(period=period.id, wake_j=wake_j, tail_j=period.tail_j, until=until)
        self._settlement.entries.periods.append(ended)
        period.shared, period.tail_j = True, 0.0
