"""On its way to its first sleep it prepares, in pieces, and turns round between two of them."""

from __future__ import annotations

from pathlib import Path

from appliance.machine.lifecycle import State
from drivers.errors import Unresponsive
from policies.ladder import Depth
from tests.benches import AWAKE, IDLE_S, Bench, bench

PIECES, PIECE_S = 4, 0.25


async def preparing(b: Bench) -> None:
    """It has served, nobody came for long enough, and it is within the second piece."""
    await b.send("first")
    await b.clock.advance(IDLE_S + PIECE_S * 1.5)

    assert b.where == (State.SETTLING, Depth.LIGHT)


async def test_who_comes_meanwhile_is_served_after_the_piece(tmp_path: Path) -> None:
    """It never slept, so nothing had to wake; the next idle time begins with its end."""
    async with bench(tmp_path, lacks={}, pieces=PIECES, piece_s=PIECE_S) as b:
        await preparing(b)
        await b.send("second")
        assert len(await b.answers()) == 1

        await b.clock.advance(PIECE_S / 2)
        assert [answer["text"] for answer in await b.answers()] == ["first", "second"]
        assert b.where == AWAKE
        assert b.engine.calls == ["start", "prepare", "prepare"]

        await b.clock.advance(IDLE_S - 0.1)
        assert b.where == AWAKE

        await b.clock.advance(0.1 + 2 * PIECE_S)
        assert b.engine.calls[3:] == ["prepare", "prepare", "sleep", "park"]
        rows = await b.rows("SELECT from_depth, to_depth FROM ledger_transition ORDER BY seq")
        assert rows[:2] == [("off", "awake"), ("awake", "light")]


async def test_the_operator_turns_it_round_too(tmp_path: Path) -> None:
    """And it stays awake for as long as was asked."""
    async with bench(tmp_path, lacks={}, pieces=PIECES, piece_s=PIECE_S) as b:
        await preparing(b)
        b.intake.wake(100.0)
        await b.clock.advance(PIECE_S / 2)
        assert b.where == AWAKE

        await b.clock.advance(99.0)
        assert b.where == AWAKE
        assert "sleep" not in b.engine.calls


async def test_nobody_comes(tmp_path: Path) -> None:
    """All of it is prepared, and then it sleeps. In the same life it is not prepared again."""
    async with bench(tmp_path, lacks={}, pieces=PIECES, piece_s=PIECE_S) as b:
        await preparing(b)
        await b.clock.advance(PIECES * PIECE_S)

        assert b.engine.calls[1:6] == ["prepare"] * PIECES + ["sleep"]


async def test_preparing_fails(tmp_path: Path) -> None:
    """Then that engine is thrown away, as if its sleep had failed."""
    async with bench(tmp_path, lacks={}, pieces=PIECES, piece_s=PIECE_S) as b:
        await preparing(b)
        b.engine.fail_next = Unresponsive("fake", "no answer")
        await b.clock.advance(PIECE_S)

        assert b.where == (State.FAILED, Depth.OFF)
        assert "no answer" in (b.appliance.supervisor.moves.failure or "")

        await b.send("second")
        await b.clock.advance(60.0)
        assert len(await b.answers()) == 2


async def test_stopping_while_it_prepares(tmp_path: Path) -> None:
    """The daemon does not wait for the pieces."""
    async with bench(tmp_path, lacks={}, pieces=1000, piece_s=PIECE_S) as b:
        await preparing(b)

    assert b.engine.calls[-2:] == ["stop", "dismiss"]
    assert b.engine.calls.count("prepare") < 5
