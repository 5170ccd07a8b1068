"""Whole tables of the log, a piece at a time.

No piece is read for longer than it takes, so that a daemon that writes meanwhile is never
held up, nor its -wal file kept from being emptied. What is written while it goes on is in
it if it is later than the piece that is being read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from appliance.reports.wall import Span

INSTANTS = 1000
"""So many different instants, or hours, are one piece."""


class Table(Struct, frozen=True):
    """What can be exported. `at`: its column that says when."""

    source: str
    at: str


TABLES = {
    "requests": Table("requests", "ended_at"),
    "wakes": Table("wakes", "at"),
    "energy": Table(
        "(SELECT hour, span, engine, device, line, depth, nullif(source, 'none') AS source,"
        " seconds, energy_j FROM ledger_energy)",
        "hour",
    ),
    "request-hours": Table("requests_by_hour", "hour"),
    "meters": Table("ledger_meter", "hour"),
}


def names(connection: sqlite3.Connection, table: Table) -> list[str]:
    """Of its columns."""
    cursor = connection.execute(f"SELECT * FROM {table.source} LIMIT 0")  # noqa: S608 - ours
    return [column[0] for column in cursor.description]


def pieces(
    connection: sqlite3.Connection, table: Table, span: Span
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in order of time; columns as `names` has them."""
    at, source = table.at, table.source
    last = (
        f"SELECT max({at}) FROM (SELECT DISTINCT {at} FROM {source}"  # noqa: S608 - ours
        f" WHERE {at} > :after AND {at} >= :since AND {at} < :until ORDER BY {at} LIMIT :many)"
    )
    piece = (
        f"SELECT * FROM {source}"  # noqa: S608 - ours
        f" WHERE {at} > :after AND {at} >= :since AND {at} <= :last ORDER BY {at}"
    )
    since = span.from_hour() if at == "hour" else span.start()
    values = {"since": since, "until": span.end(), "many": INSTANTS, "after": ""}
    while True:
        # fetchone and fetchall, unlike a loop over the rows, leave no reading open.
        (values["last"],) = connection.execute(last, values).fetchone()
        if values["last"] is None:
            return
        yield connection.execute(piece, values).fetchall()
        values["after"] = values["last"]
