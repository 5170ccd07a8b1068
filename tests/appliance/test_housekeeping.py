"""What is dropped when it is old, and by which clock: fake engine, fake clock, real SQLite."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from appliance.errors import Gone
from tests.benches import Bench, bench

HOUR_S = 3600.0
FOREVER = timedelta(days=3650)


async def kept(b: Bench) -> tuple[int, int, int]:
    """Rows of the inbox, of the ledger, and ids of which only that is known."""
    tables = ("inbox", "ledger_request", "forgotten")
    counts = [(await b.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]
    return counts[0], counts[1], counts[2]


async def answered(b: Bench) -> None:
    await b.send({"prompt": "one", "wattnap": {"id": "r"}}, door="socket", reply_to=None)
    await b.clock.advance(600)


async def goes_by(b: Bench, days: float) -> None:
    """Hour by hour: between two there is time for the disk."""
    for _ in range(round(days * 24)):
        await b.clock.advance(HOUR_S)
        await b.quiet()


async def test_what_is_old_is_dropped(tmp_path: Path) -> None:
    """Answers first, then ids and rows."""
    async with bench(tmp_path) as b:
        await answered(b)
        await goes_by(b, days=6.9)

        assert await kept(b) == (1, 1, 0)

        await goes_by(b, days=0.2)

        assert await kept(b) == (0, 1, 1)
        with pytest.raises(Gone):
            await b.intake.find("socket", "", "r")

        b.clock.wall += timedelta(days=400)
        await goes_by(b, days=7.1)

        assert await kept(b) == (0, 0, 0)


async def test_a_clock_that_is_years_ahead_drops_nothing(tmp_path: Path) -> None:
    """Nobody has said that it is right; then it is set."""
    async with bench(tmp_path) as b:
        await answered(b)
        b.clock.trusted = False
        b.clock.wall += FOREVER
        await goes_by(b, days=0.2)

        assert await kept(b) == (1, 1, 0)

        b.clock.trusted = True
        b.clock.wall -= FOREVER
        await goes_by(b, days=0.2)

        assert await kept(b) == (1, 1, 0)


async def test_a_clock_that_was_behind_when_it_was_answered(tmp_path: Path) -> None:
    """Its answer seems older than it is: it is kept as long as any, from the jump on."""
    async with bench(tmp_path) as b:
        b.clock.trusted = False
        await answered(b)
        b.clock.trusted = True
        b.clock.wall += timedelta(days=10)
        await goes_by(b, days=6.9)

        assert await kept(b) == (1, 1, 0)

        await goes_by(b, days=0.2)

        assert await kept(b) == (0, 1, 1)


async def test_a_box_that_never_learns_the_time(tmp_path: Path) -> None:
    """After a day without anybody's word, its own clock will do."""
    async with bench(tmp_path) as b:
        b.clock.trusted = False
        await answered(b)
        await goes_by(b, days=7.1)

        assert await kept(b) == (0, 1, 1)
