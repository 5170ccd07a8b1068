"""Ways in which a database comes to harm."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from appliance.request import parse
from appliance.storage import inbox
from appliance.storage.store import open_database

ENDED, WAITING = 200, 20
"""Requests in a database of these tests: each fills a page and a half; two answers are owed."""
PAGE = 4096


def fill(db: Database) -> None:
    when = inbox.Instant(at="2026-01-01T00:00:00.000Z", boot_id="b", boot_s=1.0, synced=True)
    for number in range(ENDED + WAITING):
        text = f"{number} " + "x" * 2 * PAGE
        request, _ = parse(text.encode(), door="mqtt", limit_bytes=100_000, id=f"r{number}")
        receipt = inbox.accept(
            db,
            request,
            f"r{number}",
            engine="main",
            when=when,
            running=False,
            reply_to=b"{}" if number >= ENDED - 2 else None,
            delivery=None,
        )
        if number < ENDED:
            inbox.finish(db, receipt.seq, answer=b'{"text":"x"}', code=None, at=when.at)


def filled(path: Path) -> Path:
    with closing(open_database(path)) as db:
        db.execute("BEGIN")
        fill(db)
        db.execute("COMMIT")
    return path


def zero(path: Path, page: int) -> None:
    """`page` counts from 1, as SQLite does."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


def leaf_of(path: Path, seq: int) -> int:
    """The page of the table `inbox` that has the request of this number."""
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'inbox'").fetchone()
    data = path.read_bytes()
    page = int(root)
    while data[(page - 1) * PAGE] == 5:  # an interior page: its cells lead further down
        at = (page - 1) * PAGE
        count = int.from_bytes(data[at + 3 : at + 5])
        page, low = int.from_bytes(data[at + 8 : at + 12]), page
        for cell in range(count):
            place = at + int.from_bytes(data[at + 12 + 2 * cell :][:2])
            key, shift = 0, place + 4
            while True:
                key = key << 7 | data[shift] & 0x7F
                if data[shift] < 0x80:
                    break
                shift += 1
            if seq <= key:
                page = int.from_bytes(data[place : place + 4])
                break
        assert page != low
    return page


def no_database(path: Path) -> None:
    path.write_bytes(b"# not a database\n" * 10_000)


def cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def no_header(path: Path) -> None:
    zero(path, 1)


def no_page(path: Path, seq: int = ENDED // 2) -> None:
    zero(path, leaf_of(path, seq))


def no_link(path: Path) -> None:
    """The page that leads from a body's beginning to its end."""
    data = path.read_bytes()
    links = [
        page
        for page in range(1, len(data) // PAGE + 1)
        if data[page * PAGE - PAGE : page * PAGE - PAGE + 4] != bytes(4)
        and data[page * PAGE - PAGE + 4 : page * PAGE] == b"x" * (PAGE - 4)
    ]
    zero(path, links[len(links) // 2])
