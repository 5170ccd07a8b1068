"""Booking: what the meter counts goes to one line, and to the requests that ran."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.books import Books
from drivers.errors import Unresponsive
from drivers.fake import FakeMeter
from policies.ladder import Depth
from tests.fake_clock import FakeClock


class Workshop:
    """A meter and books on a clock of the test's."""

    def __init__(self, *, power_w: float = 10.0, idle_w: float | None = None) -> None:
        self.clock = FakeClock()
        self.meter = FakeMeter(power_w, idle_w=idle_w, now=self.clock.now)
        self.books = Books(self.meter, self.clock, engine="main", device="box")

    def rows(self) -> list[tuple[Any, ...]]:
        return [(r.line, r.depth, r.seconds, r.energy_j) for r in self.books.rows()]


async def test_each_joule_has_one_line() -> None:
    """Off, waking, serving, idle, off again: the rows add up to the meter."""
    w = Workshop()
    await w.clock.advance(10)
    w.books.turn("waking", Depth.OFF)
    w.meter.draw(100)
    await w.clock.advance(5)
    w.books.turn("idle", Depth.AWAKE)
    share = w.books.begin()
    await w.clock.advance(2)
    w.books.end(share, wake_j=None)
    await w.clock.advance(3)
    w.books.close()

    assert w.rows() == [
        ("idle", "off", 10.0, 100.0),
        ("waking", "off", 5.0, 500.0),
        ("request", "awake", 2.0, 200.0),
        ("idle", "awake", 3.0, 300.0),
    ]


async def test_requests_at_once_share_in_time() -> None:
    """One alone for 2 s, two for 2 s, above an idle floor of 4 W."""
    w = Workshop(power_w=104, idle_w=4.0)
    first = w.books.begin()
    await w.clock.advance(2)
    second = w.books.begin()
    await w.clock.advance(2)
    cost = [w.books.end(share, wake_j=0.0).marginal_j for share in (first, second)]

    assert cost == [pytest.approx(300.0), pytest.approx(100.0)]


async def test_what_was_not_measured_is_none() -> None:
    """A meter that fails spoils its stretch, and says so; the next one is well."""
    w = Workshop()
    share = w.books.begin()
    await w.clock.advance(1)
    w.meter.fail_next = Unresponsive("meter", "gone")
    assert w.books.end(share, wake_j=None).marginal_j is None
    await w.clock.advance(1)
    w.books.close()

    assert [row[3] for row in w.rows()] == [None, 10.0]


async def test_a_new_epoch_is_not_negative_energy() -> None:
    """A counter that began anew makes its stretch unmeasured."""
    w = Workshop()
    await w.clock.advance(10)
    w.meter.restart()
    w.books.turn("idle", Depth.OFF)
    await w.clock.advance(10)
    w.books.close()

    assert [row[3] for row in w.rows()] == [None, 100.0]


async def test_a_meter_that_would_wake_the_device_is_let_go_at_rest() -> None:
    """Closed in OFF, not read there; what it missed is unmeasured, not 0."""
    w = Workshop()
    w.meter.wakes_device = True
    w.books.turn("waking", Depth.OFF)
    assert w.meter.opened
    await w.clock.advance(1)
    w.books.turn("idle", Depth.OFF)
    assert not w.meter.opened
    await w.clock.advance(100)
    w.books.turn("waking", Depth.OFF)
    await w.clock.advance(1)
    w.books.close()

    assert [(line, joules) for line, _, _, joules in w.rows()] == [
        ("waking", 10.0),
        ("idle", None),
        ("waking", 10.0),
    ]


async def test_no_meter_no_joules() -> None:
    """Seconds are booked all the same."""
    clock = FakeClock()
    books = Books(None, clock, engine="main", device="unmeasured")
    await clock.advance(5)
    books.close()

    (row,) = books.rows()
    assert (row.seconds, row.energy_j, row.source) == (5.0, None, None)


async def test_the_floor_is_learned_from_long_idleness() -> None:
    """Not from the first seconds, which still hold the tail of a load."""
    w = Workshop(power_w=100)
    w.books.turn("idle", Depth.AWAKE)
    await w.clock.advance(5)
    share = w.books.begin()
    await w.clock.advance(2)
    assert w.books.end(share, wake_j=0.0).quality == "low"

    w.meter.draw(60)
    await w.clock.advance(30)
    share = w.books.begin()
    w.meter.draw(160)
    await w.clock.advance(2)

    assert w.books.end(share, wake_j=0.0).marginal_j == pytest.approx(200.0)


async def test_a_slow_meter_is_not_asked_for_what_it_cannot_know() -> None:
    """Within its resolution the last reading stands; nothing is lost by that."""
    w = Workshop()
    w.meter.resolution_s = 0.1
    await w.clock.advance(1)
    w.books.turn("idle", Depth.AWAKE)
    w.meter.fail_next = Unresponsive("meter", "it must not be asked")
    await w.clock.advance(0.05)
    share = w.books.begin()
    w.meter.fail_next = None
    await w.clock.advance(1)
    w.books.end(share, wake_j=0.0)
    w.books.close()

    assert sum(row[3] for row in w.rows()) == pytest.approx(20.5)
