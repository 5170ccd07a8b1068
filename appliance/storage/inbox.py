"""The durable queue and its outbox: every statement that touches them.

A request that `accept` returned for survives a power cut. It is counted as
attempted when it is claimed, so one that takes the box down with it is tried
`max_attempts` times, not for ever. Its outcome, the answers to deliver and its
line in the ledger are one transaction.

All functions run in the store's writer thread, inside its transaction.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Struct

from appliance.desk import Delivery, Outgoing, Receipt
from appliance.errors import Conflict, Gone, InboxFull
from appliance.request import Request
from appliance.storage.sql import Database


class Instant(Struct, frozen=True, kw_only=True):
    """When something was accepted, in both clocks."""

    at: str
    boot_id: str
    boot_s: float
    synced: bool


class Waiting(Struct, frozen=True, kw_only=True):
    """An unfinished request, without its body."""

    seq: int
    id: str
    door: str
    client: str
    form: str
    path: str
    stream: int
    klass: str
    priority: int
    hops: int
    attempts: int
    suspect: int
    accepted_at: str
    boot_id: str
    accepted_s: float
    synced: int
    deadline_s: float | None


def rows(db: Database, sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:  # SQL values
    return list(db.execute(sql, values).fetchall())


def accept(
    db: Database,
    request: Request,
    id: str,
    *,
    engine: str,
    when: Instant,
    running: bool,
    reply_to: bytes | None,
    delivery: Delivery | None,
    full: InboxFull | None = None,
) -> Receipt:
    """Insert one request, or find that it is here already.

    `running`: it is claimed in the same commit, as its first attempt. `full`: what
    to raise if it is not here already.

    Raises Conflict, Gone or `full`.
    """
    if (known := _find_again(db, request, delivery)) is not None:
        return known  # its first copy's answer is on its way
    if (known := _find_id(db, request, id)) is not None:
        if reply_to is not None:
            _answer_to(db, known.seq, request.door, reply_to, ended=known.answer is not None)
        return known
    if full is not None:
        raise full
    ((seq,),) = rows(
        db,
        "INSERT INTO inbox (id, door, client, engine, digest, form, path, body, stream, class,"
        " priority, hops, state, attempts, accepted_at, boot_id, accepted_s, synced, deadline_s)"
        " VALUES (:id, :door, :client, :engine, :digest, :form, :path, :body, :stream, :class,"
        " :priority, :hops, :state, :attempts, :at, :boot_id, :boot_s, :synced, :deadline_s)"
        " RETURNING seq",
        {
            "id": id,
            "door": request.door,
            "client": request.client,
            "engine": engine,
            "digest": request.digest,
            "form": request.form,
            "path": request.path,
            "body": request.body,
            "stream": request.stream,
            "class": request.klass,
            "priority": request.priority,
            "hops": request.hops,
            "state": "running" if running else "waiting",
            "attempts": int(running),
            "at": when.at,
            "boot_id": when.boot_id,
            "boot_s": when.boot_s,
            "synced": when.synced,
            "deadline_s": request.deadline_s,
        },
    )
    if reply_to is not None:
        db.execute("INSERT INTO reply_address VALUES (?, ?)", (seq, reply_to))
    if delivery is not None:
        db.execute(
            "INSERT OR REPLACE INTO mqtt_unacked VALUES (?, ?, ?)",
            (delivery.mid, request.digest, seq),
        )
    return Receipt(seq=seq, id=id, state="running" if running else "waiting")


def _find_again(db: Database, request: Request, delivery: Delivery | None) -> Receipt | None:
    """The request of a message that the broker sends once more."""
    if delivery is None or not delivery.redelivered:
        return None
    found = rows(
        db,
        "SELECT seq, id, state, answer FROM inbox WHERE seq ="
        " (SELECT request FROM mqtt_unacked WHERE mid = :mid AND digest = :digest)",
        {"mid": delivery.mid, "digest": request.digest},
    )
    return _receipt(*found[0]) if found else None


def _find_id(db: Database, request: Request, id: str) -> Receipt | None:
    """The request that its sender has named so before. Raises Conflict or Gone."""
    if request.id is None:
        return None
    found = rows(
        db,
        "SELECT digest, seq, id, state, answer FROM inbox"
        " WHERE door = :door AND client = :client AND id = :id",
        {"door": request.door, "client": request.client, "id": id},
    )
    if found:
        digest, *known = found[0]
        if digest != request.digest:
            raise Conflict(id)
        return _receipt(*known)
    forgotten = rows(
        db,
        "SELECT digest FROM forgotten WHERE key = :key",
        {"key": key_digest(request.door, request.client, id)},
    )
    if forgotten:
        raise Gone(id) if forgotten[0][0] == request.digest else Conflict(id)
    return None


def _receipt(seq: int, id: str, state: str, answer: bytes | None) -> Receipt:
    return Receipt(seq=seq, id=id, state=state, repeated=True, answer=answer)


def _answer_to(db: Database, seq: int, door: str, reply_to: bytes, *, ended: bool) -> None:
    if ended:
        db.execute(
            "INSERT INTO outbox (request, door, reply_to) VALUES (?, ?, ?)"
            " ON CONFLICT (request, reply_to) DO NOTHING",
            (seq, door, reply_to),
        )
    else:
        db.execute("INSERT OR IGNORE INTO reply_address VALUES (?, ?)", (seq, reply_to))


def key_digest(door: str, client: str, id: str) -> bytes:
    """32 bytes that stand for an id once its request is forgotten."""
    return hashlib.sha256(b"\0".join((door.encode(), client.encode(), id.encode()))).digest()


def claim(db: Database, seq: int) -> tuple[bytes, int] | None:
    """Start an attempt: (body, attempts so far with this one). None: it has ended."""
    claimed = rows(
        db,
        "UPDATE inbox SET state = 'running', attempts = attempts + 1"
        " WHERE seq = :seq AND state = 'waiting' RETURNING body, attempts",
        {"seq": seq},
    )
    return claimed[0] if claimed else None


def release(db: Database, seq: int) -> None:
    """Give one back unserved, as if it had not been claimed."""
    db.execute(
        "UPDATE inbox SET state = 'waiting', attempts = attempts - 1"
        " WHERE seq = ? AND state = 'running'",
        (seq,),
    )


def requeue(db: Database, seq: int) -> None:
    """The engine died under it: let it wait again, to be run alone."""
    db.execute(
        "UPDATE inbox SET state = 'waiting', suspect = 1 WHERE seq = ? AND state = 'running'",
        (seq,),
    )


def finish(db: Database, seq: int, *, answer: bytes, code: str | None, at: str) -> bool:
    """Commit the one outcome, and put its answers into the outbox. False: it had one."""
    ended = rows(
        db,
        "UPDATE inbox SET state = :state, answer = :answer, code = :code, ended_at = :at"
        " WHERE seq = :seq AND state IN ('waiting', 'running') RETURNING door",
        {
            "state": "failed" if code else "done",
            "answer": answer,
            "code": code,
            "at": at,
            "seq": seq,
        },
    )
    if not ended:
        return False
    db.execute(
        "INSERT INTO outbox (request, door, reply_to)"
        " SELECT request, ?, reply_to FROM reply_address WHERE request = ?",
        (ended[0][0], seq),
    )
    db.execute("DELETE FROM reply_address WHERE request = ?", (seq,))
    return True


def unfinished(db: Database) -> list[Waiting]:
    """Everything that waits or ran when the last daemon died, oldest first."""
    names = ", ".join("class" if n == "klass" else n for n in Waiting.__struct_fields__)
    found = db.execute(
        f"SELECT {names} FROM inbox WHERE state IN ('waiting', 'running') ORDER BY seq"  # noqa: S608
    )
    return [Waiting(**dict(zip(Waiting.__struct_fields__, row, strict=True))) for row in found]


def recover(db: Database) -> int:
    """At start-up: what ran when the last daemon died waits again. How many that were."""
    return int(
        db.execute(
            "UPDATE inbox SET state = 'waiting', suspect = 1 WHERE state = 'running'"
            # The words of the index: else it reads every body that is still kept.
            " AND state IN ('waiting', 'running')"
        ).rowcount
    )


def restart_deadline(db: Database, seq: int, when: Instant) -> None:
    """Count a deadline from now, because no clock says how long the box was off."""
    db.execute(
        "UPDATE inbox SET boot_id = ?, accepted_s = ?, synced = ? WHERE seq = ?",
        (when.boot_id, when.boot_s, when.synced, seq),
    )


def outgoing(db: Database, door: str, after: int, limit: int) -> list[Outgoing]:
    """Answers for `door`, in the order in which they became ready."""
    found = rows(
        db,
        "SELECT number, client, id, reply_to, answer, hops FROM outbox"
        " JOIN inbox ON seq = request WHERE outbox.door = :door AND number > :after"
        " ORDER BY number LIMIT :limit",
        {"door": door, "after": after, "limit": limit},
    )
    return [Outgoing(*row) for row in found]


def find(db: Database, door: str, client: str, id: str) -> Receipt | None:
    """What became of a request, by its sender's id."""
    found = rows(
        db,
        "SELECT seq, state, answer FROM inbox WHERE door = :door AND client = :client AND id = :id",
        {"door": door, "client": client, "id": id},
    )
    if found:
        seq, state, answer = found[0]
        return Receipt(seq=seq, id=id, state=state, repeated=True, answer=answer)
    if rows(db, "SELECT 1 FROM forgotten WHERE key = :key", {"key": key_digest(door, client, id)}):
        raise Gone(id)
    return None


def delivered(db: Database, numbers: list[int], settled_mids: list[int]) -> None:
    db.conn.executemany("DELETE FROM outbox WHERE number = ?", [(n,) for n in numbers])
    db.conn.executemany("DELETE FROM mqtt_unacked WHERE mid = ?", [(m,) for m in settled_mids])


def undeliverable(db: Database, number: int, reason: str, at: str) -> None:
    """Take an answer out of the outbox that has no address, and put that into the ledger."""
    db.execute(
        "INSERT INTO ledger_undelivered (request, id, door, client, at, reply_to, reason)"
        " SELECT request, id, outbox.door, client, ?, reply_to, ?"
        " FROM outbox JOIN inbox ON inbox.seq = request WHERE number = ?",
        (at, reason, number),
    )
    db.execute("DELETE FROM outbox WHERE number = ?", (number,))


def session_lost(db: Database) -> None:
    """The broker numbers its messages anew."""
    db.execute("DELETE FROM mqtt_unacked")


def forget(db: Database, *, answers_before: str, ids_before: str) -> int:
    """Drop answers and bodies that ended before the one, ids before the other.

    An answer not yet delivered is kept, whatever its age. Returns how many were dropped.
    """
    old = rows(
        db,
        "SELECT seq, door, client, id, digest, ended_at FROM inbox"
        " WHERE ended_at <= :before AND seq NOT IN (SELECT request FROM outbox) LIMIT 1000",
        {"before": answers_before},
    )
    db.conn.executemany(
        "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)",
        [
            (key_digest(door, client, id), digest, ended_at)
            for _, door, client, id, digest, ended_at in old
        ],
    )
    db.conn.executemany("DELETE FROM inbox WHERE seq = ?", [(row[0],) for row in old])
    db.execute("DELETE FROM forgotten WHERE ended_at <= ?", (ids_before,))
    return len(old)
