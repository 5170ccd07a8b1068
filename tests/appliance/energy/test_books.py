"""Booking: what the meter counts goes to one line, and to the requests that ran."""

from __future__ import annotations

import pytest

from appliance.energy.attribution import Sight
from appliance.energy.books import SILENCE_S, Books
from appliance.energy.timeline import Run
from drivers.protocols import Sample
from policies.ladder import Depth
from tests.appliance.energy.workshop import Workshop
from tests.fake_clock import FakeClock
from tests.memory import count


async def test_each_joule_has_one_line() -> None:
    """Off, waking, serving above a floor, its tail, idle, off: together all that was counted."""
    w = Workshop()
    await w.passes(20.0)
    await w.wakes()
    await w.learns_the_floor(30.0)
    run = w.books.begin()
    await w.passes(4.0, 130.0)
    w.ends(run)
    await w.passes(2.0, 40.0)
    await w.passes(14.0, 30.0)
    w.rests()
    await w.passes(30.0, 10.0)
    w.books.close()

    lines = w.lines()

    assert lines == {
        ("idle", "off", "counter"): (50.0, 500.0),
        ("waking", "off", "counter"): (5.0, 500.0),
        ("idle", "awake", "counter"): (41.0, 41 * 30.0),
        ("tail", "awake", "counter"): (20.0, 20.0),
        ("request", "awake", "counter"): (4.0, 400.0),
    }
    assert w.booked_j() == pytest.approx(w.meter.sample().energy_j)


async def test_requests_at_once_share_in_time_at_first() -> None:
    """One alone for 2 s, two for 2 s; what a token draws nobody knows yet."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(4.0)
    first = w.books.begin()
    await w.passes(2.0, 104.0)
    second = w.books.begin()
    await w.passes(2.0)
    w.ends(first, 100, 1000)
    w.ends(second, 100, 10)
    w.books.close()

    assert first.share.energy_j == pytest.approx(300.0)
    assert second.share.energy_j == pytest.approx(100.0)


async def test_then_they_share_by_tokens() -> None:
    """Taught by some that ran alone: 1 J a token of a prompt, 10 J one of an answer."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(4.0)
    await w.serves_one_by_one(12)
    first, second = await w.serves_two()
    w.books.close()

    assert first.share.energy_j == pytest.approx(1100.0, rel=0.02)
    assert second.share.energy_j == pytest.approx(300.0, rel=0.05)
    assert second.share.quality == "good"


async def test_those_before_are_shared_anew() -> None:
    """Once it is known what a token draws, in the same awake period: their rows are told again."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(4.0)
    first, second = await w.serves_two()
    await w.passes(20.0, 4.0)
    by_time_j = first.share.energy_j

    assert by_time_j == second.share.energy_j == pytest.approx(700.0)
    assert [share.quality for share in w.books.entries().requests] == ["low", "low"]

    await w.serves_one_by_one(12)
    told_again = [share for share in w.books.entries().requests if share.guessed == 0]

    assert {first.share, second.share} <= set(told_again)
    assert first.share.energy_j == pytest.approx(1100.0, rel=0.02)
    assert second.share.energy_j == pytest.approx(300.0, rel=0.05)
    assert second.share.quality == "good"


async def test_when_it_rests_they_are_shared_by_what_is_known() -> None:
    """Of one stretch little is known: better than time, and marked so; with the period's end."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(4.0)
    first, second = await w.serves_two()
    await w.passes(20.0, 4.0)
    w.books.entries()
    w.rests()
    await w.passes(10.0, 4.0)
    entries = w.books.entries()

    assert len(entries.periods) == 1
    assert set(entries.requests) == {first.share, second.share}
    assert first.share.energy_j == pytest.approx(1100.0, rel=0.05)
    assert second.share.energy_j == pytest.approx(300.0, rel=0.15)
    assert second.share.quality == "low"


async def test_a_negative_share_goes_to_idle() -> None:
    """Less than the floor while a request ran: it drew 0 J, and nothing is lost."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(30.0)
    run = w.books.begin()
    await w.passes(2.0, 25.0)
    w.ends(run)
    w.books.close()

    assert run.share.energy_j == 0.0
    assert w.lines()["idle", "awake", "counter"] == (23.0, 21 * 30.0 + 50.0)


async def test_a_first_request_waits_for_the_floor() -> None:
    """Awake for the first time: what idling costs is seen only after it has been served."""
    w = Workshop()
    await w.wakes()
    run = w.books.begin()
    await w.passes(2.0, 130.0)
    w.ends(run)

    assert run.share.energy_j is None

    await w.learns_the_floor(30.0)

    assert run.share.energy_j == pytest.approx(200.0)


async def test_without_any_floor_it_is_unattributed() -> None:
    """It rests again too soon, and was never seen at rest."""
    w = Workshop()
    w.books.turn("waking", Depth.OFF)
    await w.passes(5.0)
    w.books.turn("idle", Depth.AWAKE)
    run = w.books.begin()
    await w.passes(2.0, 130.0)
    w.ends(run)
    w.books.turn("entering", Depth.OFF)
    await w.passes(1.0, 50.0)
    w.books.close()

    assert w.lines()["unattributed", "awake", "counter"] == (2.0, 260.0)
    assert run.share.energy_j is None


async def test_what_was_not_measured_is_none() -> None:
    """A new epoch is no negative energy: its stretch is not measured, the next one is well."""
    w = Workshop()
    await w.wakes()
    await w.learns_the_floor(30.0)
    run = w.books.begin()
    w.meter.restart()
    await w.passes(2.0)
    w.ends(run)
    await w.passes(20.0)
    w.books.close()

    assert run.share.energy_j is None
    assert w.lines()["idle", "awake", "none"] == (2.0, 0.0)
    assert w.lines()["idle", "awake", "counter"] == (41.0, 41 * 30.0)


async def test_rest_without_a_reading_is_known_power_times_time() -> None:
    """Its source says so: table. Of an awake engine nothing is made up."""
    w = Workshop()
    await w.passes(20.0, 8.0)
    await w.clock.advance(100.0)
    w.books.lapse()
    await w.wakes()
    await w.clock.advance(10.0)
    w.books.lapse()
    w.books.close()

    lines = w.lines()

    assert lines["idle", "off", "table"] == (100.0, 800.0)
    assert lines["idle", "awake", "none"] == (10.0, 0.0)


async def test_a_silent_meter_is_waited_for_but_not_for_ever() -> None:
    """What it has counted meanwhile is booked when it speaks again; or is given up."""
    w = Workshop()
    await w.clock.advance(SILENCE_S - 1)
    w.books.miss()
    w.books.take(w.meter.sample())

    assert w.lines()["idle", "off", "counter"] == (SILENCE_S - 1, 10 * (SILENCE_S - 1))

    await w.clock.advance(SILENCE_S + 1)
    w.books.miss()

    assert w.lines()["idle", "off", "table"] == (SILENCE_S + 1, 10 * (SILENCE_S + 1))


@pytest.mark.parametrize(
    ("source", "seconds", "quality"),
    [("integral", 10.0, "low"), ("integral", 100.0, "good"), ("counter", 10.0, "good")],
)
async def test_a_request_of_which_power_was_not_seen(
    source: str, seconds: float, quality: str
) -> None:
    """For a good part of it, a straight line stood for it. A counter has counted meanwhile."""
    w = Workshop(source=source)
    await w.wakes()
    await w.learns_the_floor(30.0)
    run = w.books.begin()
    await w.passes(seconds - 4.0, 130.0)
    await w.clock.advance(2.0)
    w.books.miss()
    await w.passes(2.0)
    w.ends(run)
    await w.passes(20.0, 30.0)
    w.books.close()

    assert run.share.quality == quality


async def test_the_period_shares_wake_and_tails() -> None:
    """Once it is over, and all of it is settled: its wake, the tails in it."""
    w = Workshop()
    await w.passes(20.0)
    await w.wakes(5.0, 100.0)
    await w.learns_the_floor(30.0)
    runs = []
    for _ in range(2):
        runs.append(w.books.begin())
        await w.passes(2.0, 130.0)
        w.ends(runs[-1])
        await w.passes(10.0, 34.0)
        await w.passes(10.0, 30.0)
    assert w.lines()
    assert w.found.periods == []

    w.rests()
    await w.passes(10.0, 10.0)
    w.books.close()

    assert w.lines()
    (ended,) = w.found.periods
    assert ended.wake_j == pytest.approx(500.0)
    assert ended.tail_j == pytest.approx(80.0)
    assert w.found.requests == [run.share for run in runs]


async def test_no_meter_no_joules() -> None:
    """Seconds are booked all the same."""
    clock = FakeClock()
    books = Books(clock, engine="main")
    await clock.advance(5)
    books.turn("waking", Depth.OFF)
    books.close()

    assert list(books.entries().lines.values()) == [[5.0, 0.0]]


async def test_without_a_meter_nothing_is_kept_of_requests_that_never_pause() -> None:
    """Each begins before the last one ends: their seconds are booked all the same."""
    clock = FakeClock()
    books = Books(clock, engine="main")
    books.turn("waking", Depth.OFF)
    books.turn("idle", Depth.AWAKE)
    known = count(Run)
    last = books.begin()
    for _ in range(2000):
        run = books.begin()
        await clock.advance(1.0)
        books.end(last)
        books.write(last.share)
        last = run

    assert count(Run) - known < 200
    assert sum(seconds for seconds, _ in books.entries().lines.values()) > 1900


@pytest.mark.parametrize("took_s", [0.0001, 0.1])
async def test_a_move_in_no_time_is_no_strong_one(took_s: float) -> None:
    """Beside it the box drew more than its floor for a while: that is neither its, nor a lesson."""
    w = Workshop(most_w=100.0)
    await w.wakes()
    await w.learns_the_floor(10.0)
    w.meter.draw(22.0)
    await w.clock.advance(10.0)
    w.books.turn("entering", Depth.OFF)
    await w.clock.advance(took_s)
    w.books.turn("idle", Depth.OFF)
    await w.passes(10.0, 10.0)
    w.books.close()

    assert w.books.learned.move_w("entering off") is None
    assert w.lines()
    ((seconds, joules),) = [
        sums for (_, line, *_), sums in w.found.lines.items() if line == "entering"
    ]
    assert seconds == pytest.approx(took_s)
    assert 0 < joules < 120 * took_s
    assert w.booked_j() == pytest.approx(w.meter.sample().energy_j)


async def test_a_request_in_no_time_is_no_strong_one() -> None:
    """Likewise."""
    w = Workshop(most_w=100.0)
    await w.wakes()
    await w.learns_the_floor(10.0)
    run = w.books.begin()
    await w.clock.advance(0.001)
    w.ends(run)
    await w.passes(10.0, 22.0)
    w.books.close()

    assert w.books.learned.serving_w is None
    assert run.share.energy_j is not None
    assert 0 < run.share.energy_j <= 0.1


async def test_a_clock_that_jumps_is_followed() -> None:
    """Stamps in the future, or from before the last one: the look was now."""
    w = Workshop()
    for jump_s in (3600.0, -50.0):
        await w.clock.advance(10.0)
        sample = w.meter.sample()
        w.books.take(Sample(sample.at_s + jump_s, sample.energy_j, sample.epoch))
    w.books.close()

    assert w.lines() == {("idle", "off", "counter"): (20.0, 200.0)}


async def test_what_a_blurred_meter_shows_late_is_no_tail() -> None:
    """A mean of the last second goes on for a second after the request: that is still its own."""
    clock = FakeClock()
    books = Books(clock, engine="main", source="integral", sight=Sight(1.0))
    books.take(Sample(0.0, 0.0))
    books.turn("waking", Depth.OFF)
    books.turn("idle", Depth.AWAKE)
    await clock.advance(20.0)
    books.take(Sample(20.0, 200.0))
    await clock.advance(10.0)
    books.take(Sample(30.0, 300.0))
    run = books.begin()
    await clock.advance(2.0)
    books.end(run)
    books.write(run.share)
    books.take(Sample(32.0, 320.0 + 150.0))  # 100 W for 2 s, seen half a second late
    await clock.advance(1.0)
    books.take(Sample(33.0, 330.0 + 200.0))
    books.close()

    assert run.share.energy_j == pytest.approx(200.0)
