"""The inbox's statements on a real file: repeats, redeliveries, retention, recovery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from appliance.desk import Delivery, Receipt
from appliance.errors import Conflict, Gone, InboxFull
from appliance.request import parse
from appliance.storage import inbox
from appliance.storage.store import open_database

AT = "2026-01-01T00:00:00.000Z"
WHEN = inbox.Instant(at=AT, boot_id="boot", boot_s=1.0, synced=True)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "a.db")
    yield opened
    opened.close()


def accept(
    db: Database,
    text: str = "hi",
    *,
    id: str | None = None,
    client: str = "",
    made: str = "made",
    running: bool = False,
    reply_to: bytes | None = b"here",
    delivery: Delivery | None = None,
) -> Receipt:
    request, _ = parse(text.encode(), door="mqtt", client=client, limit_bytes=1000, id=id)
    return inbox.accept(
        db,
        request,
        id or made,
        engine="main",
        when=WHEN,
        running=running,
        reply_to=reply_to,
        delivery=delivery,
    )


def finish(db: Database, seq: int, answer: bytes = b"{}") -> bool:
    return inbox.finish(db, seq, answer=answer, code=None, at=AT)


def outgoing(db: Database) -> list[tuple[str, bytes, bytes]]:
    return [(o.id, o.reply_to, o.answer) for o in inbox.outgoing(db, "mqtt", 0, 100)]


def test_the_same_id_of_two_clients_are_two_requests(db: Database) -> None:
    """Ids are unique within (door, client)."""
    assert accept(db, id="1", client="a").seq != accept(db, "other", id="1", client="b").seq


def test_a_repeat_before_the_end_adds_an_address(db: Database) -> None:
    """One run, an answer to each place that asked, the same bytes."""
    first = accept(db, id="1")
    again = accept(db, id="1", reply_to=b"there")
    finish(db, first.seq, b'{"x"}')

    assert again.repeated
    assert again.seq == first.seq
    assert outgoing(db) == [("1", b"here", b'{"x"}'), ("1", b"there", b'{"x"}')]


def test_a_repeat_after_the_end_brings_the_stored_answer(db: Database) -> None:
    """Delivered once already: it goes out again, it is not run again."""
    seq = accept(db, id="1").seq
    finish(db, seq)
    inbox.delivered(db, [o.number for o in inbox.outgoing(db, "mqtt", 0, 10)], [])
    assert outgoing(db) == []

    assert accept(db, id="1").answer == b"{}"
    assert outgoing(db) == [("1", b"here", b"{}")]


def test_one_outcome(db: Database) -> None:
    """The second end of the same request changes nothing."""
    seq = accept(db).seq
    assert finish(db, seq, b"first")
    assert not inbox.finish(db, seq, answer=b"second", code="x", at=AT)

    assert outgoing(db) == [("made", b"here", b"first")]


def test_a_redelivery_without_an_id_is_recognised(db: Database) -> None:
    """Same number, same content, marked as sent before: the same request."""
    first = accept(db, delivery=Delivery(7, redelivered=False))
    again = accept(db, made="another", delivery=Delivery(7, redelivered=True))
    finish(db, first.seq)

    assert again.id == first.id
    assert again.repeated
    assert len(outgoing(db)) == 1


def test_a_number_used_again_is_a_new_request(db: Database) -> None:
    """Not marked as sent before, or settled meanwhile: the broker means another message."""
    first = accept(db, delivery=Delivery(7, redelivered=False))
    second = accept(db, made="2", delivery=Delivery(7, redelivered=False))
    assert second.seq != first.seq

    inbox.delivered(db, [], [7])
    third = accept(db, made="3", delivery=Delivery(7, redelivered=True))
    assert not third.repeated


def test_a_lost_session_forgets_its_numbers(db: Database) -> None:
    """A broker that has forgotten us sends nothing again."""
    accept(db, delivery=Delivery(7, redelivered=False))
    inbox.session_lost(db)

    assert not accept(db, made="2", delivery=Delivery(7, redelivered=True)).repeated


def test_claim_counts_release_gives_back_requeue_keeps(db: Database) -> None:
    """A clean stop costs no attempt; a death does, and makes it a suspect."""
    seq = accept(db).seq
    claimed = inbox.claim(db, seq)
    assert claimed is not None
    assert claimed[1] == 1
    inbox.release(db, seq)
    assert inbox.claim(db, seq) == claimed
    inbox.requeue(db, seq)
    (row,) = inbox.unfinished(db)

    assert (row.attempts, row.suspect) == (1, 1)
    assert inbox.claim(db, seq) == (claimed[0], 2)


def test_a_start_reads_only_what_is_unfinished(db: Database) -> None:
    """Not the bodies of a week: recovery goes by the index of what waits or runs."""
    asked: list[str] = []
    db.conn.set_trace_callback(asked.append)
    inbox.recover(db)
    inbox.unfinished(db)
    db.conn.set_trace_callback(None)
    plans = [db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchone()[3] for sql in asked]

    assert plans == ["SCAN inbox USING INDEX inbox_unfinished"] * 2


def test_recovery_keeps_the_attempt(db: Database) -> None:
    """What ran when the daemon died waits again, and has used an attempt."""
    accept(db, running=True)
    accept(db, made="2")
    assert inbox.recover(db) == 1

    assert [(r.attempts, r.suspect) for r in inbox.unfinished(db)] == [(1, 1), (0, 0)]


def test_forgetting_leaves_the_id(db: Database) -> None:
    """Answers go, then a repeat is `gone` and another body a conflict; at last ids go too."""
    seq = accept(db, id="1").seq
    finish(db, seq)
    later = "2026-01-08T00:00:00.000Z"
    assert inbox.forget(db, answers_before=later, ids_before="") == 0, "not yet delivered"

    inbox.delivered(db, [o.number for o in inbox.outgoing(db, "mqtt", 0, 10)], [])
    assert inbox.forget(db, answers_before=later, ids_before="") == 1
    with pytest.raises(Gone):
        accept(db, id="1")
    with pytest.raises(Conflict):
        accept(db, "another body", id="1")
    with pytest.raises(Gone):
        inbox.find(db, "mqtt", "", "1")

    inbox.forget(db, answers_before=later, ids_before=later)
    assert not accept(db, id="1").repeated


def test_unfinished_requests_are_never_forgotten(db: Database) -> None:
    """However old."""
    accept(db)
    inbox.forget(db, answers_before="9999", ids_before="9999")

    assert len(inbox.unfinished(db)) == 1


def test_outgoing_is_in_order_of_readiness_and_pages(db: Database) -> None:
    """A later request that ends first is delivered first; `after` goes on from there."""
    a, b = accept(db, made="a").seq, accept(db, made="b").seq
    finish(db, b)
    (first,) = inbox.outgoing(db, "mqtt", 0, 10)
    finish(db, a)
    found: list[Any] = inbox.outgoing(db, "mqtt", first.number, 10)

    assert first.id == "b"
    assert [o.id for o in found] == ["a"]


def test_a_full_inbox_knows_what_it_has(db: Database) -> None:
    """A repeat is no new request: it is found even when nothing more is taken."""
    first = accept(db, id="1")
    request, _ = parse(b"hi", door="mqtt", limit_bytes=1000, id="1")
    full = InboxFull(1, 5.0)
    again = inbox.accept(
        db,
        request,
        "1",
        engine="main",
        when=WHEN,
        running=False,
        reply_to=None,
        delivery=None,
        full=full,
    )
    assert again.seq == first.seq

    other, _ = parse(b"hi", door="mqtt", limit_bytes=1000, id="2")
    with pytest.raises(InboxFull):
        inbox.accept(
            db,
            other,
            "2",
            engine="main",
            when=WHEN,
            running=False,
            reply_to=None,
            delivery=None,
            full=full,
        )


def test_a_redelivered_repeat_is_answered_where_it_asks(db: Database) -> None:
    """Known by its id only: its own first copy may never have come."""
    seq = accept(db, id="1", delivery=Delivery(7, redelivered=False)).seq
    accept(db, id="1", reply_to=b"there", delivery=Delivery(8, redelivered=True))
    finish(db, seq)

    assert {address for _, address, _ in outgoing(db)} == {b"here", b"there"}
